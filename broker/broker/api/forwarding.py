"""What reaches a broker that stands by is handed on to the one that owns the store."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from broker.api.answers import Send
from broker.api.departure import departed
from broker.api.publish import Disconnected, Receive, Scope, length_in, read_body
from broker.errors import BrokerError, MalformedRequest, NoOwner, OutcomeUnknown, RouteNotFound
from broker.partition import HOME

CONNECT_S = 2.0
# A broker that stops closes connections that are idle for 3 s: no request may meet that.
IDLE_S = 2.0
OWNER_POLL_S = 0.5
_OVERHEAD_BYTES = 1024 * 1024
# Where two brokers take each other for the owner, a request goes no further than from one to the
# other.
_HANDED_ON = "broker-handed-on"
_HANDED_ON_NAME = _HANDED_ON.encode()
# Of an answer that says that nothing was changed, for the cell is another broker's.
_NOT_OWNER = "broker-not-owner"
NOT_OWNER = (_NOT_OWNER.encode(), b"1")
_OF_ONE_CONNECTION = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
# What stands in a request's target as it is. A fragment would not reach the owner.
_OF_A_TARGET = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")


class NotOwner(Exception):
    """The broker that was asked does not own the store, or this part of it: nothing was changed."""


@dataclass(frozen=True, slots=True)
class HandedOn:
    """A request as another broker is to have it."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes


class Forwarding:
    """Hands requests on, and answers back, as they come."""

    def __init__(self, owner: Callable[[], str | None], max_body_bytes: int) -> None:
        self._owner = owner
        self._max_body_bytes = max_body_bytes + _OVERHEAD_BYTES
        self._session: aiohttp.ClientSession | None = None

    def owner(self) -> str | None:
        """Return where requests go."""
        return self._owner()

    async def close(self) -> None:
        """Close the connections to the owner."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """Serve one request. Raises NoOwner, OutcomeUnknown, and what refuses it unread."""
        if handed_on(scope) is not None:
            raise NoOwner
        request = await self.take(scope, receive, request_id)
        try:
            await self.ask(request, self._owner, receive, send)
        except NotOwner:
            raise NoOwner from None

    async def take(
        self, scope: Scope, receive: Receive, request_id: bytes, cell: int = HOME
    ) -> HandedOn:
        """Read a request that is for the owner of a cell. Raises what refuses it unread."""
        headers = _headers_of(scope, request_id)
        headers.append((_HANDED_ON, str(cell)))
        target = _target_of(scope)
        body = await self.read(scope, receive)
        return HandedOn(scope["method"], target, headers, body)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Read a body that may be as long as any. Raises what refuses it unread."""
        return await read_body(receive, length_in(scope), self._max_body_bytes)

    async def ask(
        self, request: HandedOn, owner_now: Callable[[], str | None], receive: Receive, send: Send
    ) -> None:
        """Have the owner answer a request. Raises NoOwner, NotOwner, OutcomeUnknown, Disconnected.

        After the beginning of an answer, it ends where the owner's does. An owner that is frozen,
        or out of reach, closes no connection: once another has its place, nothing comes any more.
        """
        owner = owner_now()
        if owner is None:
            raise NoOwner
        asking = asyncio.ensure_future(self._ask(request, owner))
        leaving = asyncio.ensure_future(departed(receive))
        following = asyncio.ensure_future(_followed(owner, owner_now))
        tasks: list[asyncio.Future[Any]] = [asking, leaving, following]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                if _NOT_OWNER in asking.result().headers:
                    raise NotOwner
                tasks[0] = asyncio.ensure_future(_hand_back(asking.result(), send))
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            elif leaving.done():
                raise Disconnected
            else:
                raise _unanswered(request.method)
        finally:
            for task in (asking, *tasks):
                task.cancel()
            await asyncio.gather(asking, *tasks, return_exceptions=True)
            if not asking.cancelled() and asking.exception() is None:
                asking.result().close()

    async def _ask(self, request: HandedOn, owner: str) -> aiohttp.ClientResponse:
        try:
            return await self._client().request(
                request.method,
                URL(owner + request.target, encoded=True),
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise NoOwner from None
        except (TimeoutError, aiohttp.ClientError, OSError):
            raise _unanswered(request.method) from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            )
        return self._session


async def _followed(owner: str, owner_now: Callable[[], str | None]) -> None:
    """End once a broker owns the store no longer, and what it had answered would be here."""
    while owner_now() == owner:  # noqa: ASYNC110 nobody tells of it
        await asyncio.sleep(OWNER_POLL_S)
    await asyncio.sleep(OWNER_POLL_S)


def handed_on(scope: Scope) -> str | None:
    """Return which cell another broker has handed a request on for, None for any other request."""
    return next(
        (value.decode("latin-1") for name, value in scope["headers"] if name == _HANDED_ON_NAME),
        None,
    )


def _unanswered(method: str) -> BrokerError:
    return NoOwner() if method in _SAFE else OutcomeUnknown()


def _target_of(scope: Scope) -> str:
    """Return the path and query to ask the owner for. Raises RouteNotFound.

    What does not begin with a slash would go on with the owner's host: `@elsewhere/`.
    """
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    if not path.startswith(b"/"):
        raise RouteNotFound
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    return quote(path.partition(b"?")[0] + query, safe=_OF_A_TARGET)


def _headers_of(scope: Scope, request_id: bytes) -> list[tuple[str, str]]:
    """Return the headers to hand on. Raises MalformedRequest for what the owner would not get."""
    given = [(name.lower(), value) for name, value in scope["headers"]]
    dropped = _of_one_connection(given) | {b"content-length", b"expect", b"x-request-id"}
    kept = [(_text(name), _text(value)) for name, value in given if name not in dropped]
    return [*kept, ("x-request-id", request_id.decode())]


def _text(part: bytes) -> str:
    try:
        return part.decode()  # as it is encoded again
    except UnicodeDecodeError:
        raise MalformedRequest("A header is not UTF-8.") from None


def _of_one_connection(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Name the headers that are not for whoever comes next (RFC 9110, section 7.6.1)."""
    named = b",".join(value for name, value in headers if name == b"connection")
    return _OF_ONE_CONNECTION.union(name.strip().lower() for name in named.split(b","))


async def _hand_back(answer: aiohttp.ClientResponse, send: Send) -> None:
    given = [(name.lower(), value) for name, value in answer.raw_headers]
    dropped = _of_one_connection(given)
    headers = [(name, value) for name, value in given if name not in dropped]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for chunk in answer.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
