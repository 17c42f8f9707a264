"""HTTP to the broker: one pool of connections, retries, refusals as exceptions."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from broker_client.answers import Answer, read_answer
from broker_client.errors import BrokerUnavailable
from broker_client.retries import Retries

# Shorter than the broker keeps idle connections even when it stops, so that none is used just as it
# is closed.
_KEEP_ALIVE_S = 2.0


class Transport:
    """Sends requests to one broker, each again until it is answered or hopeless.

    Safe to share between threads, and after a fork.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        max_attempts: int = 5,
        min_backoff_s: float = 0.1,
        max_backoff_s: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = pool_options(base_url, api_key, timeout_s)
        self._retries = Retries(max_attempts, min_backoff_s, max_backoff_s)
        self._sleep = sleep
        self._pool: httpx.Client | None = None
        self._pool_pid = os.getpid()

    def call(
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
        return self._retries.call(
            lambda: self._attempt(method, path, content, headers),
            max_attempts=max_attempts,
            sleep=self._sleep,
        )

    def close(self) -> None:
        """Close the connections; a further call opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _attempt(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> Answer:
        try:
            response = self._own_pool().request(method, path, content=content, headers=headers)
        except httpx.RequestError as error:
            raise no_answer(error, self._options) from error
        return read_answer(response)

    def _own_pool(self) -> httpx.Client:
        # A child that used its parent's sockets would mix its requests into the parent's.
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool = httpx.Client(**self._options)
            self._pool_pid = os.getpid()
        return self._pool


def pool_options(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Say how a pool of connections to one broker is made. Raises ValueError for what is no URL."""
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(f"the broker's URL begins with http:// or https://, not {base_url!r}")
    return {
        "base_url": base_url.rstrip("/"),
        "headers": {} if api_key is None else {"Authorization": f"Bearer {api_key}"},
        "timeout": timeout_s,
        "limits": httpx.Limits(keepalive_expiry=_KEEP_ALIVE_S),
        "trust_env": False,
    }


def no_answer(error: httpx.RequestError, options: Mapping[str, Any]) -> BrokerUnavailable:
    """Say that a request made in such a pool got no answer."""
    cause = str(error) or type(error).__name__
    return BrokerUnavailable(f"no answer from {options['base_url']}: {cause}")
