"""Publishes events."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from broker_client.event import Event


@dataclass(frozen=True, slots=True)
class Published:
    """The broker's receipt for one event."""

    id: str
    sequence: int | None
    duplicate: bool


class Publisher:
    """Publishes events over one pool of connections."""

    def __init__(
        self,
        base_url: str,
        *,
        source: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        max_attempts: int = 5,
    ) -> None:
        self.base_url = base_url
        self.source = source

    def publish(self, topic: str, event: Event) -> Published:
        """Publish one event."""
        raise NotImplementedError

    def publish_batch(self, topic: str, events: Sequence[Event]) -> list[Published]:
        """Publish up to 1,000 events, all or none."""
        raise NotImplementedError

    def publish_data(
        self,
        topic: str,
        data: Any,
        *,
        type: str,
        key: str | None = None,
        id: str | None = None,
        subject: str | None = None,
    ) -> Published:
        """Wrap `data` in an event and publish it."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
