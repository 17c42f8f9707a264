"""What reaches a broker that stands by is handed on to the one that owns the store."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import aiohttp
from yarl import URL

from broker.api.publish import Receive, Scope, length_in, read_body
from broker.errors import NoOwner, OutcomeUnknown

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CONNECT_S = 2.0
_OVERHEAD_BYTES = 1024 * 1024
# Where two brokers take each other for the owner, a request goes no further than from one to the
# other.
_HANDED_ON = "broker-handed-on"
_OF_ONE_CONNECTION = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


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
        """Serve one request. Raises NoOwner, OutcomeUnknown, and what refuses its body.

        After the beginning of an answer, it ends where the owner's does.
        """
        headers = _headers_of(scope, request_id)
        if any(name == _HANDED_ON for name, _ in headers):
            raise NoOwner
        headers.append((_HANDED_ON, "1"))
        body = await read_body(receive, length_in(scope), self._max_body_bytes)
        answer = await self._ask(scope, headers, body)
        handing = asyncio.ensure_future(_hand_back(answer, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((handing, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (handing, gone):
                task.cancel()
            await asyncio.gather(handing, gone, return_exceptions=True)
            answer.close()

    async def _ask(
        self, scope: Scope, headers: list[tuple[str, str]], body: bytes
    ) -> aiohttp.ClientResponse:
        owner = self._owner()
        if owner is None:
            raise NoOwner
        path = scope.get("raw_path") or scope["path"].encode()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        url = URL(owner + (path.partition(b"?")[0] + query).decode("latin-1"), encoded=True)
        method = scope["method"]
        try:
            return await self._client().request(
                method, url, headers=headers, data=body or None, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise NoOwner from None
        except (TimeoutError, aiohttp.ClientError, OSError):
            if method in _SAFE:
                raise NoOwner from None
            raise OutcomeUnknown from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            )
        return self._session


def _headers_of(scope: Scope, request_id: bytes) -> list[tuple[str, str]]:
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]
    dropped = _OF_ONE_CONNECTION | {"content-length", "expect", "x-request-id"}
    kept = [(name, value) for name, value in headers if name not in dropped]
    return [*kept, ("x-request-id", request_id.decode("latin-1"))]


async def _hand_back(answer: aiohttp.ClientResponse, send: Send) -> None:
    headers = [
        (name.lower(), value)
        for name, value in answer.raw_headers
        if name.decode("latin-1").lower() not in _OF_ONE_CONNECTION
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for chunk in answer.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
