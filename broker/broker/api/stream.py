"""`GET /v1/topics/{topic}/stream`: a topic's messages as they come, as Server-Sent Events.

Source: HTML Living Standard, section 9.2, Server-sent events.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from broker.api.departure import departed
from broker.api.publish import Receive, Scope
from broker.cloudevents import structured
from broker.errors import BrokerError, Fault, InvalidRequest
from broker.model import Message
from broker.queries import FROM, STREAM, read_query, require_only
from broker.service import Broker

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 15.0
_KEEP_ALIVE = b": nothing new\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


async def stream(
    broker: Broker,
    topic: str,
    scope: Scope,
    receive: Receive,
    send: Send,
    request_id: bytes,
    ended: asyncio.Event,
    admit: Callable[[], None],
) -> None:
    """Send messages until the client goes away, the topic is deleted, or the broker stops.

    It ends as well once `admit`, asked before each part, raises: the key may have been revoked.
    A reader that is slow is waited for: what it has not taken yet stays in the log. Raises
    TooManyStreams.
    """
    after, key, type_ = _wanted(scope)
    with broker.streams.place():
        watching = broker.watch(topic, after, key, type_)
        await _stream(watching, receive, send, request_id, ended, admit)


async def _stream(
    watching: AsyncGenerator[Sequence[Message], None],
    receive: Receive,
    send: Send,
    request_id: bytes,
    ended: asyncio.Event,
    admit: Callable[[], None],
) -> None:
    headers = [*_HEADERS, (b"x-request-id", request_id)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _send(send, b": the stream begins\n\n")
    sending = asyncio.ensure_future(_send_all(watching, send, admit))
    leaving = asyncio.ensure_future(departed(receive))
    ending = asyncio.ensure_future(ended.wait())
    tasks = (sending, leaving, ending)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await watching.aclose()
    if sending.done() and not sending.cancelled() and (error := sending.exception()) is not None:
        log.error("A stream failed.", exc_info=error, extra={"action": "stream_failed"})
    if not leaving.done() or leaving.cancelled():
        await send({"type": "http.response.body", "body": b""})


async def _send_all(watching: Any, send: Send, admit: Callable[[], None]) -> None:
    following = asyncio.ensure_future(anext(watching, None))
    try:
        while True:
            done, _ = await asyncio.wait((following,), timeout=KEEP_ALIVE_S)
            try:
                admit()
            except BrokerError:
                return
            if not done:
                await _send(send, _KEEP_ALIVE)
                continue
            messages = following.result()
            if messages is None:
                return
            await _send(send, b"".join(map(_rendered, messages)))
            following = asyncio.ensure_future(anext(watching, None))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _rendered(message: Message) -> bytes:
    event = structured(message.attributes, message.data, message.seq)
    if b"\n" in event or b"\r" in event:  # between the parts of data that is JSON
        event = b" ".join(event.splitlines())
    return b"id: %d\nevent: message\ndata: %s\n\n" % (message.seq, event)


def _wanted(scope: Scope) -> tuple[int | None, str | None, str | None]:
    """Read where to begin, None for now, and which key and type are wanted."""
    query = scope.get("query_string", b"").decode("latin-1")
    given = dict(parse_qsl(query, keep_blank_values=True))
    require_only(STREAM, given)
    wanted = read_query(STREAM, given)
    for name, value in scope["headers"]:
        if name == b"last-event-id" and value:
            wanted["after"] = _resumed(value.decode("latin-1"))
    return wanted["after"], wanted["key"], wanted["type_"]


def _resumed(text: str) -> int:
    try:
        after: int = FROM.read(text)
    except ValueError as error:
        raise InvalidRequest([Fault("Last-Event-ID", str(error))]) from None
    return after


async def _send(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
