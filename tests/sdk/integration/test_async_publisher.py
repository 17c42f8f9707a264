"""The publisher of an event loop: a broker on loopback, whole and broken, and the broker itself."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from broker_client import (
    AsyncPublisher,
    BrokerRefused,
    BrokerUnavailable,
    Event,
    Published,
)
from sdk.loopback_broker import AWAY, HANG_UP, Answer, LoopbackBroker, Request, refusal
from support.broker_process import StartBroker

T = TypeVar("T")


def event(**data: object) -> Event:
    return Event(type="order.created", source="/shop", data=data, partitionkey="7")


def in_turn(*answers: Answer | None) -> Callable[[Request], Answer | None]:
    """Give these answers one after another, then none."""
    left: Iterator[Answer | None] = iter(answers)
    return lambda request: next(left, None)


def with_publisher(url: str, use: Callable[[AsyncPublisher], Awaitable[T]], **options: object) -> T:
    """Use a publisher in a loop of its own, with next to no waits."""

    async def run() -> T:
        given = {"min_backoff_s": 0.001, "max_backoff_s": 0.002, **options}
        async with AsyncPublisher(url, **given) as publisher:  # type: ignore[arg-type]
            return await use(publisher)

    return asyncio.run(run())


def test_events_are_published_with_receipts(broker: LoopbackBroker) -> None:
    first, second = event(n=1), event(n=2)

    async def use(publisher: AsyncPublisher) -> None:
        assert await publisher.publish("order", first) == Published(first.id, 1, False)
        assert await publisher.publish_batch("order", [first, second]) == [
            Published(first.id, 1, True),
            Published(second.id, 2, False),
        ]
        assert await publisher.publish_encoded("order", [second.to_json()]) == [
            Published(second.id, 2, True)
        ]
        assert await publisher.publish_batch("order", []) == []

    with_publisher(broker.url, use)

    assert broker.messages["order"] == [first.to_dict(), second.to_dict()]


def test_data_is_wrapped_in_an_event(broker: LoopbackBroker) -> None:
    async def use(publisher: AsyncPublisher) -> Published:
        return await publisher.publish_data(
            "order", {"n": 1}, type="order.created", key="7", id="a-1", subject="s"
        )

    assert with_publisher(broker.url, use, source="/shop", api_key="secret").id == "a-1"

    [stored] = broker.messages["order"]
    assert (stored["source"], stored["type"]) == ("/shop", "order.created")
    assert (stored["partitionkey"], stored["subject"]) == ("7", "s")
    assert broker.requests[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "failure",
    [HANG_UP, *(Answer(status) for status in (408, 429, 502, 503, 504, 507))],
    ids=lambda answer: "hang up" if answer.hang_up else str(answer.status),
)
def test_what_may_pass_is_tried_again(failure: Answer, broker: LoopbackBroker) -> None:
    broker.before = in_turn(failure, failure, failure, failure)

    with_publisher(broker.url, lambda publisher: publisher.publish("order", event()))

    assert len(broker.requests) == 5
    assert len({request.body for request in broker.requests}) == 1


def test_an_answer_that_got_lost_leaves_no_duplicate(broker: LoopbackBroker) -> None:
    broker.after = in_turn(HANG_UP)

    receipt = with_publisher(broker.url, lambda publisher: publisher.publish("order", event()))

    assert receipt.duplicate
    assert broker.ids() == [receipt.id]


def test_after_the_last_attempt_the_broker_is_unavailable(broker: LoopbackBroker) -> None:
    broker.before = lambda request: AWAY

    with pytest.raises(BrokerUnavailable, match="come back later") as caught:
        with_publisher(broker.url, lambda publisher: publisher.publish("order", event()))

    assert caught.value.status == 503
    assert len(broker.requests) == 5


def test_a_refusal_says_what_the_broker_said_and_is_not_repeated(broker: LoopbackBroker) -> None:
    faults = [{"field": "data.total", "message": "is negative"}]
    broker.before = lambda request: refusal(422, "schema_violation", "repair it", errors=faults)

    with pytest.raises(BrokerRefused) as caught:
        with_publisher(broker.url, lambda publisher: publisher.publish("order", event()))

    assert (caught.value.status, caught.value.code) == (422, "schema_violation")
    assert caught.value.errors == faults
    assert len(broker.requests) == 1


def test_the_waits_are_those_asked_for_or_spread(broker: LoopbackBroker) -> None:
    waits: list[float] = []
    broker.before = in_turn(Answer(429, headers={"Retry-After": "7"}), *[Answer(503)] * 40)

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with_publisher(
        broker.url,
        lambda publisher: publisher.publish("order", event()),
        max_attempts=60,
        min_backoff_s=0.1,
        max_backoff_s=1.0,
        sleep=sleep,
    )

    assert waits[0] == 7.0
    assert 0.5 < max(waits[1:]) <= 1.0
    assert len(set(waits)) > 30


def test_where_nobody_listens_the_broker_is_unavailable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(BrokerUnavailable, match=url) as caught:
            with_publisher(url, lambda publisher: publisher.publish("order", event()))

    assert caught.value.status is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"messages": [5]}'])
def test_an_answer_that_is_no_receipt_is_not_taken_for_one(
    body: bytes, broker: LoopbackBroker
) -> None:
    broker.before = lambda request: Answer(200, raw=body)

    with pytest.raises(BrokerUnavailable, match="other than the broker"):
        with_publisher(broker.url, lambda publisher: publisher.publish_batch("order", [event()]))


def test_what_cannot_be_is_refused_here(broker: LoopbackBroker) -> None:
    with pytest.raises(ValueError, match="topic name"):
        with_publisher(broker.url, lambda publisher: publisher.publish("a/b", event()))
    with pytest.raises(ValueError, match="1000"):
        with_publisher(
            broker.url, lambda publisher: publisher.publish_batch("order", [event()] * 1001)
        )
    with pytest.raises(ValueError, match="http://"):
        AsyncPublisher("broker:8080")
    assert broker.requests == []


def test_tasks_share_a_publisher_and_the_loop_goes_on_meanwhile(broker: LoopbackBroker) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        held.set()
        assert go_on.wait(20)

    broker.before = hold

    async def use(publisher: AsyncPublisher) -> list[Published]:
        tasks = [asyncio.create_task(publisher.publish("order", event(n=n))) for n in range(50)]
        assert await asyncio.to_thread(held.wait, 20)
        assert not any(task.done() for task in tasks), "the loop ran while the broker held all"
        go_on.set()
        return await asyncio.gather(*tasks)

    receipts = with_publisher(broker.url, use)

    assert sorted(each.sequence or 0 for each in receipts) == list(range(1, 51))


def test_a_cancelled_task_lets_go_and_the_others_go_on(broker: LoopbackBroker) -> None:
    go_on = threading.Event()
    broker.before = lambda request: None if go_on.wait(20) else AWAY

    async def use(publisher: AsyncPublisher) -> Published:
        cancelled = asyncio.create_task(publisher.publish("order", event(n=0)))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        go_on.set()
        return await publisher.publish("order", event(n=1))

    assert with_publisher(broker.url, use).sequence is not None


def test_a_publisher_may_be_used_in_one_loop_after_another(broker: LoopbackBroker) -> None:
    publisher = AsyncPublisher(broker.url, max_attempts=1)

    async def use() -> None:
        await publisher.publish("order", event())
        await publisher.aclose()

    asyncio.run(use())
    asyncio.run(use())

    assert len(broker.ids()) == 2


@pytest.mark.timeout(180)
def test_a_broker_killed_in_a_burst_loses_and_doubles_nothing(start_broker: StartBroker) -> None:
    broker = start_broker()
    made = [event(n=n) for n in range(600)]

    async def use(publisher: AsyncPublisher) -> None:
        for n, each in enumerate(made):
            receipt = await publisher.publish("order", each)
            assert receipt.id == each.id
            if n in (150, 300, 450):
                broker.kill()
                broker.launch()

    with_publisher(broker.base_url, use, max_attempts=60, max_backoff_s=1.0, min_backoff_s=0.1)
    broker.recover()

    assert [each["id"] for each in broker.api.all_messages("order")] == [each.id for each in made]
