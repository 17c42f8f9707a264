"""A newer broker says more than the library knows, an older one less than it would like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from broker_client import (
    AckHandle,
    AsyncPublisher,
    BrokerRefused,
    BrokerUnavailable,
    Delivery,
    Event,
    Published,
    Publisher,
    PullConsumer,
    Retry,
)
from broker_client.flask_ext import Subscriber
from broker_client.generated import broker_pb2 as pb
from broker_client.grpc_publisher import GrpcPublisher
from sdk.loopback_broker import Answer, Json, LoopbackBroker, Request
from sdk.loopback_rpc import LoopbackRpc
from sdk.webhook import SECRET, binary, signed
from support.eventually import eventually

NEWER: Json = {"unknown": 1, "colours": {"of": ["things"]}, "nothing": None}
EVENT = Event(type="t", source="/s", id="a-1", data={"n": 1}, partitionkey="k")


def publish_async(url: str, events: list[Event] | Event) -> Any:
    """Publish from an event loop."""

    async def run() -> Any:
        async with AsyncPublisher(url, max_attempts=1) as publisher:
            if isinstance(events, list):
                return await publisher.publish_batch("order", events)
            return await publisher.publish("order", events)

    return asyncio.run(run())


def publish(url: str, events: list[Event] | Event) -> Any:
    """Publish from a thread."""
    with Publisher(url, max_attempts=1) as publisher:
        if isinstance(events, list):
            return publisher.publish_batch("order", events)
        return publisher.publish("order", events)


Publish = Callable[[str, Any], Any]
BOTH = pytest.mark.parametrize("publish", [publish, publish_async])


@BOTH
@pytest.mark.parametrize(
    ("receipt", "read"),
    [
        ({"id": "a-1", "sequence": 7, "duplicate": True, **NEWER}, Published("a-1", 7, True)),
        ({"id": "a-1", "sequence": 7}, Published("a-1", 7, False)),
        ({"id": "a-1"}, Published("a-1", None, False)),
    ],
    ids=["newer", "older", "much older"],
)
def test_receipts_are_read(
    broker: LoopbackBroker, publish: Publish, receipt: Json, read: Published
) -> None:
    broker.before = lambda request: Answer(
        201, {"messages": [receipt], **NEWER} if b"batch" in _type(request) else receipt
    )

    assert publish(broker.url, EVENT) == read
    assert publish(broker.url, [EVENT]) == [read]


def _type(request: Request) -> bytes:
    return request.headers["content-type"].encode()


@BOTH
@pytest.mark.parametrize(
    ("problem", "code", "detail", "errors"),
    [
        (
            {
                **NEWER,
                "code": "a_newer_word",
                "title": "No.",
                "detail": "Not so.",
                "errors": [{"field": "x", "message": "is wrong", "pointer": "/x"}],
            },
            "a_newer_word",
            "Not so.",
            [{"field": "x", "message": "is wrong", "pointer": "/x"}],
        ),
        ({"title": "No."}, "unknown", "No.", []),
        ({"errors": ["x"], "detail": "Not so."}, "unknown", "Not so.", []),
        ({"errors": [{"message": "is wrong"}]}, "unknown", "Conflict", [{"message": "is wrong"}]),
        ({"errors": None}, "unknown", "Conflict", []),
    ],
)
def test_refusals_are_read(
    broker: LoopbackBroker,
    publish: Publish,
    problem: Json,
    code: str,
    detail: str,
    errors: list[Json],
) -> None:
    broker.before = lambda request: Answer(409, problem)

    with pytest.raises(BrokerRefused) as caught:
        publish(broker.url, EVENT)

    refused = caught.value
    assert (refused.status, refused.code, refused.detail) == (409, code, detail)
    assert refused.errors == errors


@BOTH
def test_a_status_nobody_knows_is_a_refusal_or_an_absence(
    broker: LoopbackBroker, publish: Publish
) -> None:
    broker.before = lambda request: Answer(499, {})
    with pytest.raises(BrokerRefused):
        publish(broker.url, EVENT)
    broker.before = lambda request: Answer(599, {})
    with pytest.raises(BrokerUnavailable):
        publish(broker.url, EVENT)


class PullingBroker:
    """Answers a puller: one delivery, and then what became of it."""

    def __init__(self, broker: LoopbackBroker, subscription: Any, delivery: Json) -> None:
        self.told: list[tuple[str, Json]] = []
        self.result: Json = {"ack_id": "x", "result": "settled"}
        self._subscription = subscription
        self._deliveries = [delivery]
        self._more: Json = {}
        broker.before = self._answer

    def newer(self) -> None:
        """Say more in each answer."""
        self._more = NEWER
        self.result = {**self.result, **NEWER}

    def _answer(self, request: Request) -> Answer:
        if request.method == "PUT":
            return Answer(200, self._subscription)
        act = request.path.rpartition("/")[2]
        if act == "pull":
            found, self._deliveries = self._deliveries, []
            return Answer(200, {"deliveries": found, **self._more})
        self.told.append((act, request.document))
        return Answer(200, {"results": [self.result], **self._more})


MESSAGE: Json = {**EVENT.to_dict(), "sequence": 3}


@pytest.mark.parametrize(
    ("subscription", "delivery"),
    [
        (
            {"ack_deadline_s": 30, **NEWER},
            {
                "ack_id": "x",
                "attempt": 2,
                "replay": False,
                "message": {**MESSAGE, "newattribute": "new", "nothing": None},
                **NEWER,
            },
        ),
        ({}, {"ack_id": "x", "message": MESSAGE}),
        ({"ack_deadline_s": None}, {"ack_id": "x", "message": EVENT.to_dict()}),
    ],
    ids=["newer", "older", "much older"],
)
@pytest.mark.parametrize(
    "result",
    [{"ack_id": "x", "result": "settled"}, {"ack_id": "x", "result": "a-newer-word"}, {}],
)
def test_what_is_pulled_is_handled_and_acknowledged(
    broker: LoopbackBroker,
    subscription: Json,
    delivery: Json,
    result: Json,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = PullingBroker(broker, subscription, delivery)
    answers.result = result
    if "unknown" in subscription:
        answers.newer()
    handled: list[Event] = []

    consumer = PullConsumer(
        broker.url, "order", "packing", lambda event, session: handled.append(event)
    )
    assert consumer.run_once() == 1
    consumer.close()

    assert [(event.id, event.data) for event in handled] == [("a-1", {"n": 1})]
    assert answers.told == [("ack", {"ack_ids": ["x"]})]
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_what_is_handed_back_is_handed_back(broker: LoopbackBroker) -> None:
    answers = PullingBroker(broker, NEWER, {"ack_id": "x", "message": MESSAGE, **NEWER})
    answers.newer()

    def handle(event: Event, session: Any) -> None:
        raise Retry(after_s=5)

    consumer = PullConsumer(broker.url, "order", "packing", handle)
    assert consumer.run_once() == 0
    consumer.close()

    assert answers.told == [("nack", {"ack_ids": ["x"], "delay_s": 5})]


@pytest.mark.parametrize("result", ["lapsed", "unknown"])
def test_what_came_too_late_is_told(
    broker: LoopbackBroker, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = PullingBroker(broker, {}, {"ack_id": "x", "message": MESSAGE})
    answers.result = {"ack_id": "x", "result": result}

    consumer = PullConsumer(broker.url, "order", "packing", lambda event, session: None)
    consumer.run_once()
    consumer.close()

    assert "out for longer than it may be" in caplog.text


@pytest.mark.parametrize("subscription", [None, [], "yes"])
def test_what_is_no_subscription_is_not_taken_for_one(
    broker: LoopbackBroker, subscription: Any
) -> None:
    PullingBroker(broker, subscription, {})
    consumer = PullConsumer(broker.url, "order", "packing", lambda event, session: None)

    with pytest.raises(BrokerUnavailable, match="other than the broker"):
        consumer.run_once()
    consumer.close()


@pytest.mark.parametrize("view", [{**NEWER, "allow_later": False}, {}, None])
def test_a_subscriber_is_ready_whatever_more_is_told(broker: LoopbackBroker, view: Any) -> None:
    broker.after = lambda request: Answer(200, view)
    app = Flask("shop")
    app.config.from_mapping(
        BROKER_URL=broker.url,
        BROKER_WEBHOOK_URL="http://127.0.0.1:1",
        BROKER_WEBHOOK_SECRET=SECRET,
    )
    subscriber = Subscriber(app)
    seen: list[Delivery] = []
    subscriber.on("order")(lambda event, session: seen.append(subscriber.delivery))
    eventually(lambda: subscriber.ready)
    subscriber.stop()

    plain = binary(EVENT)
    headers = {
        name: value for name, value in plain.headers.items() if name.lower() != "ce-sequence"
    }
    for webhook in (
        signed(plain, webhook_priority="high", webhook_newer="1"),
        signed(type(plain)({**headers, "ce-newattribute": "new"}, plain.body)),
    ):
        sent = {n: v for n, v in webhook.headers.items() if n.lower() != "webhook-attempt"}
        answer = app.test_client().post("/webhooks/order", data=webhook.body, headers=sent)
        assert answer.status_code == 204
    subscriber.stop()  # a request has begun it anew

    assert [each.event.data for each in seen] == [{"n": 1}] * 2
    assert [(each.attempt, each.sequence) for each in seen] == [(1, 1), (1, None)]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {"result": "settled", **NEWER}),
        Answer(200, {"result": "a-newer-word"}),
        Answer(200, {}),
        Answer(204),
    ],
)
def test_a_late_verdict_counts_unless_it_is_said_to_have_lapsed(
    broker: LoopbackBroker, answer: Answer
) -> None:
    broker.before = lambda request: answer
    handle = AckHandle(f"{broker.url}/v1/acks/order/shop/token-1")

    assert handle.ack()
    broker.before = lambda request: Answer(200, {"result": "lapsed", **NEWER})
    assert not handle.ack()


class Wire:
    """A message with fields behind it that this version of the protocol does not have."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def SerializeToString(self) -> bytes:  # noqa: N802 -- the name is Protobuf's
        return bytes(self._message.SerializeToString()) + b"\xfa\x3e\x03new\xf8\x3e\x07"


def test_receipts_over_grpc_are_read() -> None:
    with LoopbackRpc() as rpc, GrpcPublisher(rpc.target, max_attempts=1) as publisher:
        rpc.publish = lambda request: Wire(
            pb.PublishResponse(messages=[pb.Published(id="a-1", sequence=7, duplicate=True)])
        )
        assert publisher.publish("order", EVENT) == Published("a-1", 7, True)
        rpc.publish = lambda request: pb.PublishResponse(messages=[pb.Published(id="a-1")])
        assert publisher.publish("order", EVENT) == Published("a-1", None, False)
