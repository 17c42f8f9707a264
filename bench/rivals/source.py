"""Where a forwarder has its messages from."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

IN_FLIGHT = 128  # as many as this broker's subscription may have out in the bench


@dataclass(frozen=True, slots=True)
class Taken:
    """A message, what tells it apart, and how to acknowledge it."""

    sequence: str
    body: bytes
    acknowledge: Callable[[], Awaitable[None]]


class Source(Protocol):
    """A consumer of another broker's queue."""

    def messages(self) -> AsyncIterator[Taken]:
        """Give them as they come, for ever."""
