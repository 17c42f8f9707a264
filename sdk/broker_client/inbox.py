"""Remembers which events were handled."""

from typing import Any

from broker_client.event import Event


class Inbox:
    """The ids already handled, kept beside the handlers' effects."""

    def __init__(self, database: Any, *, table: str = "inbox", consumer: str = "") -> None:
        self._table = table

    def create_tables(self) -> None:
        """Create the tables where they are missing."""
        raise NotImplementedError

    def record(self, target: Any, event: Event, *, consumer: str | None = None) -> bool:
        """Record the event; False when it is there already."""
        raise NotImplementedError

    def forget(self, source: str, id: str, *, consumer: str | None = None) -> bool:
        """Forget one event, so that a replay is handled again."""
        raise NotImplementedError

    def purge(self, older_than_s: float) -> int:
        """Forget events older than this; return how many."""
        raise NotImplementedError
