"""Couriers alone: when they may begin requests, and what becomes of one when another ends."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial

import psutil
import pycurl
import pytest
from msgspec.structs import replace

from broker.boot_time import boot_time
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Endpoint as Told
from broker.dispatch.frames import Outcome
from broker.dispatch.transfers import SMALL_BODY_BYTES, Transfer
from broker.model import Message
from broker.subscription import Subscription
from broker.targets import parse_allowed_targets
from broker.tls import Tls
from support.endpoint import Answer, Endpoint

LOST = -1
ATTRIBUTES = b'{"id":"a","source":"/s","type":"t","specversion":"1.0"}'
JOB = (1, [Message(1, None, ATTRIBUTES, b"1", 0.0)], [])


class Waiting:
    """A sender that hears how its jobs ended."""

    subscription = Subscription("t", "s", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")

    def __init__(self, jobs: int) -> None:
        self.statuses: list[int] = []
        self.all = asyncio.Event()
        self._jobs = jobs

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Hear the outcomes."""
        self.statuses += [outcome.status for outcome in outcomes]
        if len(self.statuses) == self._jobs:
            self.all.set()

    def lost(self, _: int) -> None:
        """Hear that there is no outcome."""
        self.statuses.append(LOST)
        if len(self.statuses) == self._jobs:
            self.all.set()


def told(url: str, id_: int = 1) -> Told:
    """Say where requests go."""
    return Told(id_, url, "structured", [b"k"], [], 5000, [], "m-", once=True)


async def become(look: Callable[[], bool]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(10):
        while not look():  # noqa: ASYNC110 nobody tells of it
            await asyncio.sleep(0.01)


def couriers_of_this_process() -> list[psutil.Process]:
    """List them, the oldest first."""
    children = sorted(psutil.Process().children(), key=psutil.Process.create_time)
    return [child for child in children if "broker.dispatch.courier" in child.cmdline()]


def test_nothing_begins_before_the_broker_may_send(endpoint: Endpoint) -> None:
    until = -math.inf
    sender = Waiting(jobs=2)

    async def send() -> None:
        nonlocal until
        couriers = Couriers(parse_allowed_targets(["127.0.0.0/8"]), Tls(), None, lambda: until)
        await couriers.start()
        try:
            couriers.set_endpoint(told(f"{endpoint.url}/too-early"))
            couriers.send(sender, 1, [JOB])
            couriers.ask(sender, 1, ["webhook-request-origin: broker"])
            couriers.set_endpoint(told(f"{endpoint.url}/in-time"))
            until = boot_time() + 60
            await asyncio.wait_for(sender.all.wait(), 10)
        finally:
            await couriers.stop()

    asyncio.run(send())

    paths = [request.path for request in (*endpoint.requests, *endpoint.asked)]
    assert [path.rpartition("/")[2] for path in paths] == ["in-time", "in-time"]


def test_bodies_of_all_sizes_come_whole_over_one_connection(endpoint: Endpoint) -> None:
    most = SMALL_BODY_BYTES
    bodies = [bytes(size) for size in (1, most - 1, most, most + 1, 1 << 20, 1, most)]

    async def send() -> None:
        couriers = Couriers(parse_allowed_targets(["127.0.0.0/8"]), Tls(), None)
        await couriers.start()
        try:
            couriers.set_endpoint(replace(told(endpoint.url), format="binary"))
            for seq, body in enumerate(bodies, 1):
                sender = Waiting(jobs=1)
                couriers.send(sender, 1, [(1, [Message(seq, None, ATTRIBUTES, body, 0.0)], [])])
                await asyncio.wait_for(sender.all.wait(), 10)
        finally:
            await couriers.stop()

    asyncio.run(send())

    assert [request.body for request in endpoint.requests] == bodies


def test_courier_that_ends_takes_with_it_only_what_it_had_out(endpoint: Endpoint) -> None:
    killed = threading.Event()
    endpoint.script = lambda _: Answer(200 if killed.wait(10) else 500)
    senders = {id_: Waiting(jobs=2) for id_ in (1, 2, 3)}
    again = Waiting(jobs=1)

    async def send() -> None:
        couriers = Couriers(parse_allowed_targets(["127.0.0.0/8"]), Tls(), None, count=2)
        await couriers.start()
        try:
            for id_, sender in senders.items():
                couriers.set_endpoint(told(f"{endpoint.url}/{id_}", id_))
                await become(partial(couriers.reaches, id_))
                couriers.send(sender, id_, [JOB, JOB])
            await become(lambda: len(endpoint.timeline) == 6)
            _, second = couriers_of_this_process()
            second.kill()
            await become(lambda: not couriers.alive())
            killed.set()
            assert [couriers.reaches(id_) for id_ in senders] == [True, False, True]
            for sender in senders.values():
                await asyncio.wait_for(sender.all.wait(), 10)
            assert couriers.alive()
            couriers.send(again, 2, [JOB])
            await asyncio.wait_for(again.all.wait(), 10)
        finally:
            await couriers.stop()

    asyncio.run(send())

    assert not couriers_of_this_process()
    statuses = [sender.statuses for sender in senders.values()]
    assert statuses == [[200, 200], [LOST, LOST], [200, 200]]
    assert again.statuses == [200]
    assert len(endpoint.requests) == 7


def test_every_courier_hears_until_when_the_broker_may_send(endpoint: Endpoint) -> None:
    until = -math.inf
    senders = {id_: Waiting(jobs=1) for id_ in (1, 2)}

    async def send() -> None:
        nonlocal until
        couriers = Couriers(
            parse_allowed_targets(["127.0.0.0/8"]), Tls(), None, lambda: until, count=2
        )
        await couriers.start()
        try:
            for id_, sender in senders.items():
                couriers.set_endpoint(told(f"{endpoint.url}/{id_}", id_))
                await become(partial(couriers.reaches, id_))
                couriers.send(sender, id_, [JOB])
            await asyncio.sleep(0.5)  # each hears at least once that it may not
            assert not endpoint.requests
            until = boot_time() + 60
            for sender in senders.values():
                await asyncio.wait_for(sender.all.wait(), 10)
        finally:
            await couriers.stop()

    asyncio.run(send())

    assert [sender.statuses for sender in senders.values()] == [[200], [200]]


@pytest.mark.parametrize("may_send", [True, False])
def test_request_leaves_only_while_the_broker_may_send(may_send: bool) -> None:
    transfer = Transfer(pycurl.Curl(), told("http://localhost"), lambda: may_send)

    left = transfer.let_go_once() == pycurl.PREREQFUNC_OK

    assert left is may_send
