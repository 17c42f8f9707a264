"""The publisher against a broker on loopback, whole and broken."""

from __future__ import annotations

import json
import multiprocessing
import socket
from collections.abc import Callable, Iterator

import pytest

from broker_client import (
    BrokerRefused,
    BrokerUnavailable,
    Event,
    Published,
    Publisher,
)
from sdk.loopback_broker import AWAY, HANG_UP, Answer, LoopbackBroker, Request, refusal


def event(**data: object) -> Event:
    return Event(type="order.created", source="/shop", data=data, partitionkey="7")


def in_turn(*answers: Answer | None) -> Callable[[Request], Answer | None]:
    """Give these answers one after another, then none."""
    left: Iterator[Answer | None] = iter(answers)
    return lambda request: next(left, None)


def test_an_event_is_published_as_it_is(broker: LoopbackBroker, publisher: Publisher) -> None:
    made = event(order_id=7)

    assert publisher.publish("order", made) == Published(made.id, 1, False)
    assert broker.messages["order"] == [made.to_dict()]
    [request] = broker.requests
    assert request.headers["content-type"] == "application/cloudevents+json"


def test_a_repeated_event_is_answered_as_a_duplicate(publisher: Publisher) -> None:
    made = event()
    publisher.publish("order", made)

    assert publisher.publish("order", made) == Published(made.id, 1, True)


def test_a_batch_is_one_request_with_receipts_in_its_order(
    broker: LoopbackBroker, publisher: Publisher
) -> None:
    events = [event(n=n) for n in range(3)]

    receipts = publisher.publish_batch("order", events)

    assert receipts == [Published(each.id, n, False) for n, each in enumerate(events, 1)]
    assert [request.events for request in broker.requests] == [[e.to_dict() for e in events]]


def test_an_empty_batch_asks_nothing(broker: LoopbackBroker, publisher: Publisher) -> None:
    assert publisher.publish_batch("order", []) == []
    assert broker.requests == []


def test_a_batch_over_the_limit_is_refused_here(
    broker: LoopbackBroker, publisher: Publisher
) -> None:
    with pytest.raises(ValueError, match="1000"):
        publisher.publish_batch("order", [event()] * 1001)
    assert broker.requests == []


def test_data_is_wrapped_in_an_event(broker: LoopbackBroker) -> None:
    with Publisher(broker.url, source="/shop") as publisher:
        receipt = publisher.publish_data(
            "order", {"n": 1}, type="order.created", key="7", id="a-1", subject="s"
        )

    assert receipt.id == "a-1"
    [stored] = broker.messages["order"]
    assert stored["data"] == {"n": 1}
    assert stored["source"] == "/shop"
    assert (stored["type"], stored["partitionkey"]) == ("order.created", "7")
    assert stored["subject"] == "s"


def test_data_without_a_source_comes_from_its_topic(
    broker: LoopbackBroker, publisher: Publisher
) -> None:
    publisher.publish_data("order", None, type="t")

    assert broker.messages["order"][0]["source"] == "/topics/order"


@pytest.mark.parametrize("topic", ["", ".hidden", "a/b", "a b", "x" * 129])
def test_a_topic_that_cannot_be_is_refused_here(
    topic: str, broker: LoopbackBroker, publisher: Publisher
) -> None:
    with pytest.raises(ValueError, match="topic name"):
        publisher.publish(topic, event())
    assert broker.requests == []


@pytest.mark.parametrize(
    "failure",
    [HANG_UP, *(Answer(status) for status in (408, 429, 502, 503, 504, 507))],
    ids=lambda answer: "hang up" if answer.hang_up else str(answer.status),
)
def test_what_may_pass_is_tried_again(
    failure: Answer, broker: LoopbackBroker, publisher: Publisher
) -> None:
    broker.before = in_turn(failure, failure, failure, failure)

    publisher.publish("order", event())

    assert len(broker.requests) == 5
    assert len({request.body for request in broker.requests}) == 1


def test_an_answer_that_got_lost_leaves_no_duplicate(
    broker: LoopbackBroker, publisher: Publisher
) -> None:
    broker.after = in_turn(HANG_UP)

    receipt = publisher.publish_data("order", {"n": 1}, type="t")

    assert receipt.duplicate
    assert broker.ids() == [receipt.id]


def test_after_the_last_attempt_the_broker_is_unavailable(
    broker: LoopbackBroker, publisher: Publisher
) -> None:
    broker.before = lambda request: AWAY

    with pytest.raises(BrokerUnavailable, match="come back later") as caught:
        publisher.publish("order", event())

    assert caught.value.status == 503
    assert len(broker.requests) == 5


def test_where_nobody_listens_the_broker_is_unavailable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with (
            Publisher(url, max_attempts=2, min_backoff_s=0) as publisher,
            pytest.raises(BrokerUnavailable, match=url) as caught,
        ):
            publisher.publish("order", event())

    assert caught.value.status is None


def test_a_broker_that_does_not_answer_in_time_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Publisher(url, timeout_s=0.05, max_attempts=1) as publisher,
            pytest.raises(BrokerUnavailable, match="no answer"),
        ):
            publisher.publish("order", event())


@pytest.mark.parametrize("status", [301, 500, 501])
def test_what_will_not_pass_is_not_tried_again(
    status: int, broker: LoopbackBroker, publisher: Publisher
) -> None:
    broker.before = lambda request: Answer(status)

    with pytest.raises(BrokerUnavailable) as caught:
        publisher.publish("order", event())

    assert caught.value.status == status
    assert len(broker.requests) == 1


def test_a_refusal_says_what_the_broker_said(broker: LoopbackBroker, publisher: Publisher) -> None:
    faults = [{"field": "data.total", "message": "is negative"}]
    broker.before = lambda request: refusal(422, "schema_violation", "repair it", errors=faults)

    with pytest.raises(BrokerRefused) as caught:
        publisher.publish("order", event())

    refused = caught.value
    assert (refused.status, refused.code, refused.detail) == (422, "schema_violation", "repair it")
    assert refused.errors == faults
    assert str(refused) == "422 schema_violation: repair it; data.total: is negative"
    assert len(broker.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_a_refusal_by_something_else_is_a_refusal(
    body: bytes, broker: LoopbackBroker, publisher: Publisher
) -> None:
    broker.before = lambda request: Answer(404, raw=body)

    with pytest.raises(BrokerRefused, match="404 unknown: Not Found"):
        publisher.publish("order", event())


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"messages": []}', b'{"messages": [5]}']
)
def test_an_answer_that_is_no_receipt_is_not_taken_for_one(
    body: bytes, broker: LoopbackBroker, publisher: Publisher
) -> None:
    broker.before = lambda request: Answer(200, raw=body)

    for call in (
        publisher.publish_batch,
        lambda topic, events: publisher.publish(topic, events[0]),
    ):
        with pytest.raises(BrokerUnavailable, match="other than the broker"):
            call("order", [event()])


def test_the_wait_the_broker_asks_for_is_kept(broker: LoopbackBroker) -> None:
    waits: list[float] = []
    broker.before = in_turn(Answer(429, headers={"Retry-After": "7"}), Answer(503))

    with Publisher(broker.url, max_backoff_s=0.5, sleep=waits.append) as publisher:
        publisher.publish("order", event())

    assert waits[0] == 7.0
    assert waits[1] <= 0.5


def test_a_wait_too_long_for_a_caller_is_left_to_it(broker: LoopbackBroker) -> None:
    waits: list[float] = []
    broker.before = lambda request: Answer(507, headers={"Retry-After": "3600"})

    with (
        Publisher(broker.url, sleep=waits.append) as publisher,
        pytest.raises(BrokerUnavailable) as caught,
    ):
        publisher.publish("order", event())

    assert caught.value.retry_after_s == 3600
    assert waits == []


def test_waits_grow_and_are_spread(broker: LoopbackBroker) -> None:
    waits: list[float] = []
    broker.before = lambda request: AWAY

    with (
        Publisher(
            broker.url, max_attempts=60, min_backoff_s=0.1, max_backoff_s=1.0, sleep=waits.append
        ) as publisher,
        pytest.raises(BrokerUnavailable),
    ):
        publisher.publish("order", event())

    assert waits[0] <= 0.1
    assert 0.5 < max(waits) <= 1.0
    assert len(set(waits)) > 50


def test_the_api_key_is_sent_with_each_request(broker: LoopbackBroker) -> None:
    with Publisher(broker.url, api_key="secret") as publisher:
        publisher.publish("order", event())

    assert broker.requests[0].headers["authorization"] == "Bearer secret"


def test_a_child_process_uses_connections_of_its_own(broker: LoopbackBroker) -> None:
    publisher = Publisher(broker.url, max_attempts=1)
    publisher.publish("order", event())
    children = [
        multiprocessing.get_context("fork").Process(
            target=lambda: [publisher.publish("order", event()) for _ in range(20)]
        )
        for _ in range(2)
    ]
    for child in children:
        child.start()
    for _ in range(20):
        publisher.publish("order", event())
    for child in children:
        child.join(20)

    publisher.close()
    assert [child.exitcode for child in children] == [0, 0]
    assert len(broker.ids()) == 61


def test_a_batch_travels_as_written(broker: LoopbackBroker, publisher: Publisher) -> None:
    texts = [event(n=n, text="ü").to_json() for n in range(2)]

    publisher.publish_encoded("order", texts)

    assert json.loads(broker.requests[0].body) == [json.loads(text) for text in texts]
