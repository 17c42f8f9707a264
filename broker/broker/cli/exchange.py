"""A publish that came in one piece, and its answer.

gunicorn is made for every kind of request: bodies that come slowly, answers that go on, upgrades.
What that takes for each is more than all else of a publish. One that is there as a whole and asks
for nothing special needs none of it; every other request goes gunicorn's way.
"""

import re
from collections.abc import MutableMapping
from typing import Any

from gunicorn.asgi.protocol import (
    _CACHED_SERVER_HEADER,
    _get_cached_date_header,
    _get_cached_status_line,
)
from gunicorn_h1c import H1CProtocol

_PUBLISH = re.compile(rb"/v1/topics/[A-Za-z0-9_.~-]+/messages")
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


class UnsafeHeader(Exception):
    """A header of an answer has the end of a line in it, and would be taken for two."""


class Exchange:
    """A request, as ASGI tells of it, and the application's answer."""

    __slots__ = ("_body", "_status", "answer_body", "headers", "keep_alive", "scope")

    def __init__(self, scope: dict[str, Any], *, keep_alive: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self._body = b""
        self._status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.answer_body = b""

    def add(self, chunk: bytes) -> None:
        """Take in a part of the request's body."""
        self._body = self._body + chunk if self._body else chunk

    @property
    def body(self) -> bytes:
        """The request's body, as far as it has come."""
        return self._body

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the whole body."""
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Take the answer in, which has its head and its body in one piece each."""
        if event["type"] == "http.response.start":
            self._status = event["status"]
            self.headers = event["headers"]
        else:
            self.answer_body = event["body"]

    def answer(self, *, keep_alive: bool) -> bytes:
        """Render the answer. Raises UnsafeHeader."""
        lines = [_get_cached_status_line(_VERSION, self._status)]
        for name, value in self.headers:
            lines += (name, b": ", value, b"\r\n")
        lines += (_CACHED_SERVER_HEADER, _get_cached_date_header())
        if not keep_alive:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(self.headers) + (4 if keep_alive else 5):
            raise UnsafeHeader
        return head + self.answer_body


def exchange_of(parser: H1CProtocol, most: int) -> Exchange | None:
    """Begin the exchange of a request whose head has come, None where it goes gunicorn's way.

    Its body has up to `most` bytes.
    """
    path = parser.path
    if (
        _PUBLISH.fullmatch(path) is None
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
        "path": path.decode("ascii"),
        "raw_path": path,
        "query_string": b"",
        "headers": list(headers),
    }
    return Exchange(scope, keep_alive=parser.should_keep_alive)
