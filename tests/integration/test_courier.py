"""The courier alone: when it may begin requests."""

from __future__ import annotations

import asyncio
import math

import pycurl
import pytest

from broker.boot_time import boot_time
from broker.dispatch.courier import Transfer
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Endpoint as Told
from broker.dispatch.frames import Item, Outcome
from broker.subscription import Subscription
from broker.targets import parse_allowed_targets
from broker.tls import Tls
from support.endpoint import Endpoint

JOB = (1, [Item(1, b'{"id":"a","source":"/s","type":"t","specversion":"1.0"}', b"1")], [])


class Waiting:
    """A sender that hears how its jobs ended."""

    subscription = Subscription("t", "s", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")

    def __init__(self, jobs: int) -> None:
        self.statuses: list[int] = []
        self.all = asyncio.Event()
        self._jobs = jobs

    def ended(self, _: int, outcome: Outcome) -> None:
        """Hear the outcome."""
        self.statuses.append(outcome.status)
        if len(self.statuses) == self._jobs:
            self.all.set()

    def lost(self, job: int) -> None:
        """Fail: no courier ends in these tests."""
        raise AssertionError(job)


def told(url: str) -> Told:
    """Say where requests go."""
    return Told(1, url, "structured", [b"k"], [], 5000, [], "m-", once=True)


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


@pytest.mark.parametrize("may_send", [True, False])
def test_request_leaves_only_while_the_broker_may_send(may_send: bool) -> None:
    transfer = Transfer(pycurl.Curl(), told("http://localhost"), lambda: may_send)

    left = transfer.let_go_once() == pycurl.PREREQFUNC_OK

    assert left is may_send
