"""The batching publisher against a broker on loopback, whole and broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest

from broker_client import (
    BatchingPublisher,
    BrokerRefused,
    BrokerUnavailable,
    Event,
    Published,
    Publisher,
)
from sdk.loopback_broker import AWAY, Answer, LoopbackBroker, Request, refusal


@pytest.fixture
def batching(publisher: Publisher) -> Iterator[BatchingPublisher]:
    """Publish to the broker on loopback."""
    with BatchingPublisher(publisher) as made:
        yield made


class Gate:
    """Holds up requests until it is opened."""

    def __init__(self, broker: LoopbackBroker) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        broker.before = self

    def __call__(self, request: Request) -> Answer | None:
        self.entered.set()
        assert self.opened.wait(20)
        return None


def event(n: int) -> Event:
    return Event(type="order.created", source="/shop", id=f"e-{n}", data={"n": n})


def test_one_event_is_sent_at_once(broker: LoopbackBroker, batching: BatchingPublisher) -> None:
    assert batching.publish("order", event(1)).result(20) == Published("e-1", 1, False)
    assert [message["data"] for message in broker.messages["order"]] == [{"n": 1}]


def test_what_comes_during_a_request_is_sent_in_the_next(
    broker: LoopbackBroker, batching: BatchingPublisher
) -> None:
    gate = Gate(broker)
    first = batching.publish("order", event(0))
    assert gate.entered.wait(20)
    others = [batching.publish("order", event(n)) for n in range(1, 501)]
    gate.opened.set()

    assert first.result(20).sequence == 1
    assert [each.result(20).sequence for each in others] == list(range(2, 502))
    assert [len(request.events) for request in broker.requests] == [1, 500]


def test_each_topic_s_order_is_kept_in_a_request_of_its_own(
    broker: LoopbackBroker, batching: BatchingPublisher
) -> None:
    gate = Gate(broker)
    first = batching.publish("first", event(99))
    assert gate.entered.wait(20)
    receipts = [batching.publish("order" if n % 3 else "other", event(n)) for n in range(30)]
    gate.opened.set()
    first.result(20)
    for each in receipts:
        each.result(20)

    assert broker.ids("order") == [f"e-{n}" for n in range(30) if n % 3]
    assert broker.ids("other") == [f"e-{n}" for n in range(0, 30, 3)]
    assert len(broker.requests) == 3


def test_refused_event_fails_alone(broker: LoopbackBroker, batching: BatchingPublisher) -> None:
    broker.refuse = lambda each: "schema_violation" if each["id"] == "e-3" else None
    gate = Gate(broker)
    receipts = [batching.publish("order", event(n)) for n in range(8)]
    gate.opened.set()

    with pytest.raises(BrokerRefused, match="schema_violation"):
        receipts.pop(3).result(20)
    assert [each.result(20).id for each in receipts] == [f"e-{n}" for n in range(8) if n != 3]
    assert broker.ids() == [f"e-{n}" for n in range(8) if n != 3]


def test_refused_sender_is_not_asked_for_each_event(
    broker: LoopbackBroker, batching: BatchingPublisher
) -> None:
    broker.before = lambda request: refusal(403, "forbidden")
    receipts = [batching.publish("order", event(n)) for n in range(50)]

    for each in receipts:
        with pytest.raises(BrokerRefused, match="forbidden"):
            each.result(20)
    assert len(broker.requests) < 50


def test_broker_that_is_away_fails_what_was_on_its_way_and_nothing_after(
    broker: LoopbackBroker, batching: BatchingPublisher
) -> None:
    broker.before = lambda request: AWAY
    with pytest.raises(BrokerUnavailable):
        batching.publish("order", event(1)).result(20)
    broker.before = lambda request: None

    assert batching.publish("order", event(2)).result(20).sequence == 1


def test_close_publishes_what_waits_and_takes_nothing_more(
    broker: LoopbackBroker, publisher: Publisher
) -> None:
    batching = BatchingPublisher(publisher)
    gate = Gate(broker)
    receipts = [batching.publish("order", event(n)) for n in range(20)]
    closing = threading.Thread(target=batching.close)
    closing.start()
    gate.opened.set()
    closing.join(20)

    assert all(each.done() for each in receipts)
    assert len(broker.ids()) == 20
    with pytest.raises(RuntimeError, match="closed"):
        batching.publish("order", event(99))
    batching.close()


def test_cancelled_event_is_not_sent(broker: LoopbackBroker, batching: BatchingPublisher) -> None:
    gate = Gate(broker)
    batching.publish("order", event(0))
    assert gate.entered.wait(20)
    regretted, last = (batching.publish("order", event(n)) for n in (1, 2))
    assert regretted.cancel()
    gate.opened.set()

    assert last.result(20).sequence == 2
    with pytest.raises(CancelledError):
        regretted.result(0)
    assert broker.ids() == ["e-0", "e-2"]


def test_no_more_wait_than_may(broker: LoopbackBroker, publisher: Publisher) -> None:
    gate = Gate(broker)
    with BatchingPublisher(publisher, max_pending=2) as batching:
        batching.publish("order", event(0))
        assert gate.entered.wait(20)
        for n in (1, 2):
            batching.publish("order", event(n))
        third = threading.Thread(target=batching.publish, args=("order", event(3)))
        third.start()
        third.join(0.2)
        assert third.is_alive()
        gate.opened.set()
        third.join(20)
    assert broker.ids() == [f"e-{n}" for n in range(4)]


def test_event_that_json_cannot_say_is_refused_at_once(batching: BatchingPublisher) -> None:
    with pytest.raises(TypeError):
        batching.publish("order", Event(type="t", source="/s", data={"a": object()}))
    with pytest.raises(ValueError, match="max_pending"):
        BatchingPublisher(Publisher("http://localhost:1"), max_pending=0)


def test_callbacks_may_publish_more_than_may_wait_and_close(
    broker: LoopbackBroker, publisher: Publisher
) -> None:
    batching = BatchingPublisher(publisher, max_pending=1)
    ended = threading.Event()

    def publish_more(_: Future[Published]) -> None:
        for n in (2, 3, 4):
            batching.publish("order", event(n))
        batching.close()
        ended.set()

    gate = Gate(broker)
    batching.publish("order", event(1)).add_done_callback(publish_more)
    gate.opened.set()
    assert ended.wait(20)
    batching.close()
    assert broker.ids() == [f"e-{n}" for n in (1, 2, 3, 4)]
