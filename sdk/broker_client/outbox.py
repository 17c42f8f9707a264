"""Publishes with the caller's own transaction."""

from typing import Any

from broker_client.event import Event
from broker_client.publisher import Publisher


class Outbox:
    """Rows to publish, written in the caller's transaction."""

    def __init__(self, database: Any, publisher: Publisher, *, table: str = "outbox") -> None:
        self._publisher = publisher

    def create_tables(self) -> None:
        """Create the tables where they are missing."""
        raise NotImplementedError

    def add(self, target: Any, topic: str, event: Event) -> None:
        """Write a row in the caller's transaction."""
        raise NotImplementedError

    def relay_once(self) -> int:
        """Publish what is there; return how many."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the relay thread."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the relay thread."""
        raise NotImplementedError
