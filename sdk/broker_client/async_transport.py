"""HTTP to the broker from an event loop: what `Transport` is for threads."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from broker_client.answers import Answer, read_answer
from broker_client.retries import Retries
from broker_client.transport import no_answer, pool_options


class AsyncTransport:
    """Sends requests to one broker, each again until it is answered or hopeless.

    For any number of tasks of one event loop at a time.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        retries: Retries | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = pool_options(base_url, api_key, timeout_s)
        self._retries = Retries() if retries is None else retries
        self._sleep = sleep
        self._pool: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        content: bytes,
        content_type: str,
        max_attempts: int | None = None,
    ) -> Answer:
        """Send a request that may be repeated. Raises BrokerRefused, BrokerUnavailable."""
        headers = {"Content-Type": content_type}
        return await self._retries.acall(
            lambda: self._attempt(method, path, content, headers),
            max_attempts=max_attempts,
            sleep=self._sleep,
        )

    async def aclose(self) -> None:
        """Close the connections; a further call opens new ones.

        Those of a loop that is over are over already.
        """
        pool, self._pool = self._pool, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            await pool.aclose()

    async def _attempt(
        self, method: str, path: str, content: bytes, headers: dict[str, str]
    ) -> Answer:
        try:
            response = await self._own_pool().request(
                method, path, content=content, headers=headers
            )
        except httpx.RequestError as error:
            raise no_answer(error, self._options) from error
        return read_answer(response)

    def _own_pool(self) -> httpx.AsyncClient:
        # A connection is of use only in the loop in which it was made.
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop:
            self._pool = httpx.AsyncClient(**self._options)
            self._loop = loop
        return self._pool
