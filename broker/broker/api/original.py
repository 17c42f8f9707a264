"""The interface of the in-memory example that this broker grew from: produce, subscribe, consume.

Its producers and consumers run unchanged: a subscriber is a pull subscription of the guarantee
at-most-once, so that handing a message out settles it.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from broker.api.departure import unless_departed
from broker.api.publish import Answer, Receive, Scope, read_body
from broker.auth import PUBLISH, SUBSCRIBE, Caller
from broker.errors import BrokerError, Fault, InvalidRequest, MalformedRequest
from broker.names import PATTERN
from broker.pulls import MAX_WAIT_S
from broker.queries import SUBSCRIBER, read_query
from broker.service import Broker

PATHS: Mapping[str, str] = {"/produce": "POST", "/subscribe": "POST", "/consume": "GET"}
_SUBSCRIBER = {"guarantee": "at-most-once", "ordering": "none"}
_CONTENT = {"datacontenttype": "application/json"}
_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Produced(msgspec.Struct):
    """A message as the original example has it."""

    topic: Annotated[str, Meta(extra_json_schema={"pattern": f"^{PATTERN}$"})] = msgspec.field(
        name="Topic"
    )
    body: msgspec.Raw = msgspec.field(name="Body", default_factory=lambda: msgspec.Raw(b"null"))


class CannotConsume(BrokerError):
    """There is nobody of this name to consume."""

    status = 500
    code = "unknown_subscriber"


_decode = msgspec.json.Decoder(Produced).decode


async def produce(broker: Broker, caller: Caller, scope: Scope, receive: Receive) -> Answer:
    """Store `Body` in the topic `Topic`."""
    body = await read_body(receive, 0, broker.body_limit(""))
    try:
        produced = _decode(body)
        body.decode()  # `Body` is kept as it came, and not looked into
    except msgspec.ValidationError:
        rule = 'send {"Topic": "<name>", "Body": <any JSON>}'
        raise InvalidRequest([Fault("Topic", rule)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(f"The body is not JSON: {error}.") from None
    caller.require(PUBLISH, produced.topic)
    messages = broker.take(produced.topic, [(dict(_CONTENT), bytes(produced.body))])
    caller.spend(len(messages))
    await broker.publish(produced.topic, messages)
    return 200, [_TEXT], b"Produced to " + produced.topic.encode()


def topic_in(body: bytes) -> str | None:
    """Return which topic the body of a `/produce` names, None where it is none."""
    try:
        return _decode(body).topic
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


async def subscribe(broker: Broker, caller: Caller, scope: Scope, receive: Receive) -> Answer:
    """Make a subscriber, unless there is one of this name."""
    topic, name = _named(scope)
    caller.require(SUBSCRIBE, topic)
    if (topic, name) not in broker.subscriptions:
        await broker.put_subscription(topic, name, _SUBSCRIBER)
    return 200, [_TEXT], b"Subscribed to " + topic.encode()


async def consume(
    broker: Broker,
    caller: Caller,
    scope: Scope,
    receive: Receive,
    ended: asyncio.Event,
) -> Answer:
    """Wait for the subscriber's next message, and answer with its data as JSON."""
    topic, name = _named(scope)
    caller.require(SUBSCRIBE, topic)
    if (topic, name) not in broker.subscriptions:
        raise CannotConsume(
            f'Nobody named "{name}" has subscribed to "{topic}". '
            f"POST /subscribe?topic={topic}&subscriber={name} first."
        )
    await read_body(receive, 0, 0)
    body = await unless_departed(_next(broker, topic, name, ended), receive)
    return 200, [_JSON], body


async def _next(broker: Broker, topic: str, name: str, ended: asyncio.Event) -> bytes:
    while not ended.is_set():
        pulled = await broker.pulls.take(topic, name, 1, MAX_WAIT_S, ended)
        if pulled:
            return _as_json(pulled[0].message.data)
    raise CannotConsume("The broker stops. Ask again in a moment.")


def _as_json(data: bytes | None) -> bytes:
    """Return data as JSON: what is none becomes a string."""
    if data is None:
        return b"null"
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
        data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode(data.decode(errors="replace"))
    return data


def _named(scope: Scope) -> tuple[str, str]:
    query = scope.get("query_string", b"").decode("latin-1")
    named = read_query(SUBSCRIBER, dict(parse_qsl(query)))
    return named["topic"], named["subscriber"]
