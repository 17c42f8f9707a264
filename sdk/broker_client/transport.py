"""HTTP to the broker: one pool of connections, retries, refusals as exceptions."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from broker_client.errors import BrokerRefused, BrokerUnavailable

_NOT_NOW = frozenset({408, 429, 502, 503, 504, 507})
_PATIENCE_S = 60.0
# Shorter than the broker keeps idle connections, so that none is used just as it is closed.
_KEEP_ALIVE_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its HTTP status and its JSON body (None where it has none)."""

    status: int
    document: Any


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
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"the broker's URL begins with http:// or https://, not {base_url!r}")
        self._base_url = base_url.rstrip("/")
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._timeout_s = timeout_s
        self._max_attempts = max_attempts
        self._backoff = wait_random_exponential(multiplier=min_backoff_s, max=max_backoff_s)
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
        attempts = self._max_attempts if max_attempts is None else max_attempts
        retrying = Retrying(
            stop=stop_any(stop_after_attempt(attempts), _StopIfAskedTooLong()),
            wait=self._wait_s,
            retry=retry_if_exception(_may_pass),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._attempt, method, path, content, {"Content-Type": content_type})

    def close(self) -> None:
        """Close the connections; a further call opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _attempt(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> Answer:
        try:
            response = self._own_pool().request(method, path, content=content, headers=headers)
        except httpx.RequestError as error:
            cause = str(error) or type(error).__name__
            raise BrokerUnavailable(f"no answer from {self._base_url}: {cause}") from error
        return _read(response)

    def _own_pool(self) -> httpx.Client:
        # A child that used its parent's sockets would mix its requests into the parent's.
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool = self._connect()
            self._pool_pid = os.getpid()
        return self._pool

    def _connect(self) -> httpx.Client:
        return httpx.Client(
            base_url=self._base_url,
            headers=self._headers,
            timeout=self._timeout_s,
            limits=httpx.Limits(keepalive_expiry=_KEEP_ALIVE_S),
            trust_env=False,
        )

    def _wait_s(self, state: RetryCallState) -> float:
        asked_s = _asked_s(state)
        return self._backoff(state) if asked_s is None else asked_s


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, BrokerUnavailable) and (
        error.status is None or error.status in _NOT_NOW
    )


def _asked_s(state: RetryCallState) -> float | None:
    error = None if state.outcome is None else state.outcome.exception()
    return error.retry_after_s if isinstance(error, BrokerUnavailable) else None


class _StopIfAskedTooLong(stop_base):
    """Stops where the broker wants a longer pause than a caller should be held up for."""

    def __call__(self, state: RetryCallState) -> bool:
        asked_s = _asked_s(state)
        return asked_s is not None and asked_s > _PATIENCE_S


def _read(response: httpx.Response) -> Answer:
    """Turn a response into an answer, or the exception it means."""
    if response.is_success:
        return Answer(response.status_code, _document(response))
    if response.is_client_error and response.status_code not in _NOT_NOW:
        raise _refusal(response)
    raise BrokerUnavailable(
        f"the broker answered {response.status_code}: {_detail(response)}",
        status=response.status_code,
        retry_after_s=parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)),
    )


def _document(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise BrokerUnavailable(
            "something other than the broker answered: no JSON", status=response.status_code
        ) from error


def _refusal(response: httpx.Response) -> BrokerRefused:
    problem = _problem(response)
    errors = problem.get("errors")
    return BrokerRefused(
        response.status_code,
        str(problem.get("code", "unknown")),
        _detail(response),
        [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else [],
    )


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _detail(response: httpx.Response) -> str:
    problem = _problem(response)
    return str(problem.get("detail") or problem.get("title") or response.reason_phrase)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds a Retry-After header asks for; None where it asks for nothing readable."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
