"""`POST /v1/topics/{topic}/messages`."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec
from msgspec import Struct

from broker.auth import Caller
from broker.errors import Fault, InvalidRequest, MalformedRequest, MessageTooLarge, RequestTooSlow
from broker.model import Appended, NewMessage
from broker.names import path_segment
from broker.service import Broker

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]

MAX_ID = 1024
BODY_S = 30.0
"""How long a request's body may take to come. 16 MiB need 4.5 Mbit/s."""
_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class Batch(Struct):
    """Where the messages of a batch stand, in their order."""

    messages: Sequence[Appended]


class Disconnected(Exception):
    """The client went away before its request was complete."""


async def publish(
    broker: Broker, caller: Caller, topic: str, scope: Scope, receive: Receive
) -> Answer:
    """Append one message or a batch; answer once it is durable."""
    headers = scope["headers"]
    content_type, _ = _told_in(headers)
    body = await read_body(receive, length_in(scope), broker.body_limit(content_type))
    batch, messages = read(broker, caller, topic, headers, body)
    appended = await broker.publish(topic, messages, batch=batch)
    return created(topic, messages, appended, batch=batch)


def read(
    broker: Broker, caller: Caller, topic: str, headers: Headers, body: bytes
) -> tuple[bool, Sequence[NewMessage]]:
    """Read a request that has come: whether it is a batch, and its messages. Spends the rate."""
    content_type, idempotency_key = _told_in(headers)
    limit = broker.body_limit(content_type)
    if len(body) > limit:
        raise _too_large(len(body), limit)
    batch, messages = broker.read(topic, content_type, headers, body, idempotency_key)
    caller.spend(len(messages))
    return batch, messages


def _told_in(headers: Headers) -> tuple[str, str | None]:
    """Return the Content-Type of a publish, and the key by which a repeat of it is known."""
    content_type, idempotency_key = "", None
    for name, value in headers:
        if name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"idempotency-key":
            idempotency_key = _key_in(value)
    return content_type, idempotency_key


def created(
    topic: str, messages: Sequence[NewMessage], appended: Sequence[Appended], *, batch: bool
) -> Answer:
    """Answer where messages stand; it holds once they are durable."""
    if batch:
        return 201, [_JSON], _encode(Batch(appended))
    location = _location(topic, messages[0], appended[0]).encode()
    return 201, [_JSON, (b"location", location)], _encode(appended[0])


def _location(topic: str, message: NewMessage, appended: Appended) -> str:
    if appended.sequence is not None:
        return f"/v1/topics/{topic}/messages/{appended.sequence}"
    place = f"/v1/topics/{topic}/scheduled/{path_segment(message.id)}"
    return f"{place}?source={quote(message.source, safe='')}"


def length_in(scope: Scope) -> int:
    """Return how long a request says that its body is, 0 where it does not say."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)


async def read_body(receive: Receive, length: int, limit: int) -> bytes:
    """Take in a request's body; refuse one that is too long before reading on."""
    if length > limit:
        raise _too_large(length, limit)
    event = await receive()
    if event["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = event.get("body", b"")
    if not event.get("more_body"):
        if len(body) > limit:
            raise _too_large(len(body), limit)
        return body
    parts = [body]
    size = len(body)
    try:
        async with asyncio.timeout(BODY_S):
            while event.get("more_body"):
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise Disconnected
                part = event.get("body", b"")
                size += len(part)
                if size > limit:
                    raise _too_large(size, limit)
                parts.append(part)
    except TimeoutError:
        raise RequestTooSlow(f"The body did not come within {BODY_S:.0f} seconds.") from None
    return b"".join(parts)


def _too_large(size: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(f"The request may have {limit} bytes; this one has {size} or more.")


def _key_in(value: bytes) -> str:
    """Return the key of an Idempotency-Key header, quoted (as its draft has it) or bare."""
    text = value.strip()
    if len(text) > 1 and text[:1] == text[-1:] == b'"':
        text = text[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    if not text or len(text) > MAX_ID:
        rule = f"must have 1 to {MAX_ID} characters"
        raise InvalidRequest([Fault("Idempotency-Key", rule)])
    try:
        return text.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedRequest("An Idempotency-Key is ASCII.") from None
