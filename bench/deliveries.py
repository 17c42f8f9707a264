"""What an endpoint was sent, told by the endpoint itself."""

import time
from dataclasses import dataclass
from typing import Protocol

from bench.result import CountsDiffer

POLL_S = 0.1
# Without anything new for so long, what is still missing will not come.
STUCK_S = 30.0


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The messages that came, those that came again, and when the first and the last one came.

    Times are epoch seconds, 0 for none.
    """

    received: int
    duplicates: int
    first_at: float
    last_at: float


class Receiver(Protocol):
    """An endpoint that keeps count."""

    @property
    def endpoint(self) -> str:
        """Give the URL to subscribe."""

    def received(self) -> int:
        """Count what has come so far, repeats too, at little cost; it may lag by 100 ms."""

    def deliveries(self) -> Deliveries:
        """Say what has come so far; the count may lag by 100 ms."""


def await_deliveries(receiver: Receiver, expected: int) -> Deliveries:
    """Wait until a receiver has got so many messages, then ask it for all it knows.

    Raises CountsDiffer if it gets no more, or others than these.
    """
    wanted = expected
    while True:
        came = _await_count(receiver, wanted)
        got = receiver.deliveries()
        missing = expected - (got.received - got.duplicates)
        if missing == 0:
            return got
        if missing < 0 or not came:
            raise CountsDiffer(f"{expected:,} messages are owed, the endpoint got {got}")
        wanted = got.received + missing  # some of those that came were repeats


def _await_count(receiver: Receiver, wanted: int) -> bool:
    most, seen_at = receiver.received(), time.monotonic()
    while most < wanted and time.monotonic() - seen_at < STUCK_S:
        time.sleep(POLL_S)
        received = receiver.received()
        if received > most:
            most, seen_at = received, time.monotonic()
    return most >= wanted
