"""The original example's API: the query on the first line, and the body of a `/produce`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, cast

import msgspec

from broker.api.original import _as_json, produce, subscribe
from broker.api.publish import Answer
from broker.cloudevents import Attributes, read_parts
from broker.errors import BrokerError
from broker.model import NewMessage
from broker.names import checked_name
from broker.service import Broker
from fuzz.events import NOW, check_refusal, check_taken, new_id

LIMIT = 1024 * 1024


class Store:
    """Stands for the broker behind the calls: takes what it would take, and keeps it here."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, NewMessage]] = []
        self.subscriptions: dict[tuple[str, str], object] = {}

    def body_limit(self, _: str) -> int:
        """Return the largest body."""
        return LIMIT

    def take(self, topic: str, events: Sequence[tuple[Attributes, bytes]]) -> list[NewMessage]:
        """Read events."""
        return [read_parts(topic, each, data, new_id, NOW) for each, data in events]

    async def publish(self, topic: str, messages: Sequence[NewMessage]) -> None:
        """Store messages."""
        checked_name("topic", topic)
        self.stored += [(topic, message) for message in messages]

    async def put_subscription(self, topic: str, name: str, _: object) -> None:
        """Store a subscription."""
        checked_name("topic", topic)
        checked_name("subscription", name)
        self.subscriptions[topic, name] = True


class Anybody:
    """Stands for a caller who may do everything."""

    def require(self, *_: object) -> None:
        """Let pass."""

    def spend(self, _: int) -> None:
        """Let any number pass."""


def check(data: bytes) -> None:
    """Produce, subscribe, and answer with what is stored."""
    query, _, body = data.partition(b"\n")
    store = Store()
    answer = _answer(produce, store, query, body)
    if answer is not None:
        ((topic, message),) = store.stored
        assert answer[2] == b"Produced to " + topic.encode()
        assert message.data is not None
        assert msgspec.json.decode(message.data) == msgspec.json.decode(body).get("Body")
        assert _as_json(message.data) == message.data
        check_taken(message)
    answer = _answer(subscribe, store, query, b"")
    if answer is not None:
        ((topic, _),) = store.subscriptions
        assert answer[2] == b"Subscribed to " + topic.encode()
    msgspec.json.decode(_as_json(data))


def _answer(call: Any, store: Store, query: bytes, body: bytes) -> Answer | None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"query_string": query}
    try:
        return _now(call(cast(Broker, store), Anybody(), scope, receive))
    except BrokerError as refusal:
        check_refusal(refusal)
        return None


def _now(answer: Coroutine[Any, Any, Answer]) -> Answer:
    """Run what waits for nothing."""
    try:
        answer.send(None)
    except StopIteration as ended:
        return cast(Answer, ended.value)
    raise AssertionError("it waits")
