"""A publish that came in one piece, and its answer.

gunicorn is made for every kind of request: bodies that come slowly, answers that go on, upgrades.
What that takes for each is more than all else of a publish. One that is there as a whole and asks
for nothing special needs none of it; every other request goes gunicorn's way.
"""

import asyncio
import re
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from gunicorn.asgi.protocol import (
    _CACHED_SERVER_HEADER,
    _get_cached_date_header,
    _get_cached_status_line,
)
from gunicorn_h1c import H1CProtocol

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


class Exchange:
    """A request, as ASGI tells of it, and the application's answer.

    `body` is the request's, as far as it has come.
    """

    __slots__ = (
        "_answer_body",
        "_complete",
        "_gone",
        "_headers",
        "_status",
        "_taken",
        "body",
        "keep_alive",
        "scope",
    )

    def __init__(self, scope: dict[str, Any], *, keep_alive: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.body = b""
        self._taken = False
        self._gone: asyncio.Event | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._answer_body = b""
        self._complete = False

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the whole body, and after that only that the client has gone."""
        if self._taken:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()
            return {"type": "http.disconnect"}
        self._taken = True
        return {"type": "http.request", "body": self.body, "more_body": False}

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
        lines = [b"%s: %s\r\n" % header for header in self._headers]
        if b"content-length" not in given:
            lines.append(b"content-length: %s\r\n" % length)
        elif given[b"content-length"] != length:
            raise NoAnswer("its length is not the one it says")
        if b"server" not in given:
            lines.append(_CACHED_SERVER_HEADER)
        if b"date" not in given:
            lines.append(_get_cached_date_header())
        if not keep_alive:
            lines.append(b"Connection: close\r\n")
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines):
            raise NoAnswer("a header has the end of a line in it")
        status_line = _get_cached_status_line(_VERSION, self._status)
        return b"".join((status_line, head, b"\r\n", self._answer_body))


@lru_cache(_MOST_PATHS)
def _publish_path(raw_path: bytes) -> str | None:
    """Return a plain path of messages as text, None for any other."""
    return raw_path.decode("ascii") if _PUBLISH.fullmatch(raw_path) else None


def exchange_of(parser: H1CProtocol, most: int) -> Exchange | None:
    """Begin the exchange of a request whose head has come, None where it goes gunicorn's way.

    Its body has up to `most` bytes.
    """
    raw_path = parser.path
    path = _publish_path(raw_path)
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
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": raw_path,
        "query_string": b"",
        "headers": list(headers),
    }
    return Exchange(scope, keep_alive=parser.should_keep_alive)
