"""What an endpoint was sent, told by the endpoint itself."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The messages that came, those that came again, and when the last one came (epoch seconds)."""

    received: int
    duplicates: int
    last_at: float


class Receiver(Protocol):
    """An endpoint that keeps count."""

    @property
    def endpoint(self) -> str:
        """Give the URL to subscribe."""

    def deliveries(self) -> Deliveries:
        """Say what has come so far; the count may lag by 100 ms."""
