"""Which requests are sent again, how often, and after which waits; the same for every transport."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from broker_client.errors import BrokerUnavailable

T = TypeVar("T")

NOT_NOW = frozenset({408, 429, 502, 503, 504, 507})
"""The HTTP statuses that say: send it again."""
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """Sends again what got no answer, or one of `NOT_NOW`, up to `max_attempts` times in all.

    The waits are random, of at most `min_backoff_s`, which doubles up to `max_backoff_s`; or what
    the broker asks for. Where that is longer than a caller should be held up, the error is raised.
    """

    max_attempts: int = 5
    min_backoff_s: float = 0.1
    max_backoff_s: float = 5.0

    def call(
        self,
        attempt: Callable[[], T],
        *,
        max_attempts: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:
        """Attempt until there is an answer. Raises what the last attempt raised."""
        return Retrying(sleep=sleep, **self._rules(max_attempts))(attempt)

    async def acall(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        max_attempts: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> T:
        """Do the same on an event loop."""

        async def awaited() -> T:  # whatever is not written as a coroutine is not awaited there
            return await attempt()

        return await AsyncRetrying(sleep=sleep, **self._rules(max_attempts))(awaited)

    def _rules(self, max_attempts: int | None) -> dict[str, Any]:
        attempts = self.max_attempts if max_attempts is None else max_attempts
        return {
            "stop": stop_any(stop_after_attempt(attempts), _StopIfAskedTooLong()),
            "wait": self._wait_s,
            "retry": retry_if_exception(_may_pass),
            "reraise": True,
        }

    def _wait_s(self, state: RetryCallState) -> float:
        asked_s = _asked_s(state)
        if asked_s is not None:
            return asked_s
        return wait_random_exponential(multiplier=self.min_backoff_s, max=self.max_backoff_s)(state)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, BrokerUnavailable) and (
        error.status is None or error.status in NOT_NOW
    )


def _asked_s(state: RetryCallState) -> float | None:
    error = None if state.outcome is None else state.outcome.exception()
    return error.retry_after_s if isinstance(error, BrokerUnavailable) else None


class _StopIfAskedTooLong(stop_base):
    """Stops where the broker wants a longer pause than a caller should be held up for."""

    def __call__(self, state: RetryCallState) -> bool:
        asked_s = _asked_s(state)
        return asked_s is not None and asked_s > _PATIENCE_S
