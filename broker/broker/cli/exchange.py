"""A publish that came in one piece, and its answer.

gunicorn is made for every kind of request: bodies that come slowly, answers that go on, upgrades.
What that takes for each is more than all else of a publish. One that is there as a whole and asks
for nothing special needs none of it; every other request goes gunicorn's way.
"""

import asyncio
import re
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn.asgi.protocol import (
    _CACHED_SERVER_HEADER,
    _get_cached_date_header,
    _get_cached_status_line,
)
from gunicorn_h1c import H1CProtocol

if TYPE_CHECKING:  # gunicorn's first process has no use for the broker itself
    from broker.api.publish import Answer

_PUBLISH = re.compile(rb"/v1/topics/[A-Za-z0-9_.~-]+/messages")
_MOST_PATHS = 1024  # remembered, of 4 KiB at most
_VERSION = (1, 1)
# What publishers, and the libraries they use, send. Others, and any with an underscore, may say
# something to gunicorn.
_PLAIN = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-request-id",
    )
)
_ATTRIBUTE = b"ce-"


class NoAnswer(Exception):
    """There is no whole answer that can be sent; the text says why."""


class Request:
    """A publish; `body` is what has come of it."""

    __slots__ = ("body", "headers", "keep_alive", "path")

    def __init__(self, path: str, headers: list[tuple[bytes, bytes]], *, keep_alive: bool) -> None:
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = b""


class Exchange:
    """A request, as ASGI tells of it, and the application's answer."""

    __slots__ = (
        "_answer_body",
        "_complete",
        "_gone",
        "_headers",
        "_request",
        "_status",
        "_taken",
    )

    def __init__(self, request: Request) -> None:
        self._request = request
        self._taken = False
        self._gone: asyncio.Event | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._answer_body = b""
        self._complete = False

    def scope(self) -> dict[str, Any]:
        """Return what is known of the request before its body."""
        path = self._request.path
        return {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": b"",
            "headers": list(self._request.headers),
        }

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the whole body, and after that only that the client has gone."""
        if self._taken:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()
            return {"type": "http.disconnect"}
        self._taken = True
        return {"type": "http.request", "body": self._request.body, "more_body": False}

    def leave(self) -> None:
        """Hear that the client has gone."""
        self._gone = self._gone or asyncio.Event()
        self._gone.set()

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Take a part of the answer in."""
        if event["type"] == "http.response.start":
            self._status = event["status"]
            self._headers = event["headers"]
        else:
            self._answer_body += event["body"]
            self._complete = not event.get("more_body")

    def answer(self, *, keep_alive: bool) -> bytes:
        """Render the answer. Raises NoAnswer."""
        if not self._complete:
            raise NoAnswer("the application did not finish it")
        length = b"%d" % len(self._answer_body)
        given = dict(self._headers)
        if given.get(b"content-length", length) != length:
            raise NoAnswer("its length is not the one it says")
        more = b"" if b"content-length" in given else b"content-length: %s\r\n" % length
        if b"server" not in given:
            more += _CACHED_SERVER_HEADER
        if b"date" not in given:
            more += _get_cached_date_header()
        return _joined(self._status, self._headers, more, self._answer_body, keep_alive)


def rendered(said: "Answer", request_id: bytes, *, keep_alive: bool) -> bytes:
    """Render an answer that did not come by ASGI, to the same bytes. Raises NoAnswer."""
    status, headers, body = said
    more = b"content-length: %d\r\nx-request-id: %s\r\n%s%s" % (
        len(body),
        request_id,
        _CACHED_SERVER_HEADER,
        _get_cached_date_header(),
    )
    return _joined(status, headers, more, body, keep_alive)


def _joined(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    more: bytes,
    body: bytes,
    keep_alive: bool,
) -> bytes:
    lines = b"".join([b"%s: %s\r\n" % header for header in headers])
    if not lines.count(b"\n") == lines.count(b"\r") == len(headers):
        raise NoAnswer("a header has the end of a line in it")
    return b"%s%s%s%s%s" % (
        _get_cached_status_line(_VERSION, status),
        lines,
        more,
        b"\r\n" if keep_alive else b"Connection: close\r\n\r\n",
        body,
    )


@lru_cache(_MOST_PATHS)
def _publish_path(raw_path: bytes) -> str | None:
    """Return a plain path of messages as text, None for any other."""
    return raw_path.decode("ascii") if _PUBLISH.fullmatch(raw_path) else None


def request_of(parser: H1CProtocol, most: int) -> Request | None:
    """Return the request whose head has come, None where it goes gunicorn's way.

    Its body has up to `most` bytes.
    """
    path = _publish_path(parser.path)
    if (
        path is None
        or parser.method != b"POST"
        or parser.http_version != _VERSION
        or parser.is_chunked
        or not 0 < (parser.content_length or 0) <= most
    ):
        return None
    headers = parser.asgi_headers
    for name, _ in headers:
        if name not in _PLAIN and (name[:3] != _ATTRIBUTE or b"_" in name):
            return None
    return Request(path, headers, keep_alive=parser.should_keep_alive)
