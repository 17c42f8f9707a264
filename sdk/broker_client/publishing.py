"""What every publisher is, whichever way its events travel."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker_client.closing import Closing
from broker_client.event import Event
from broker_client.uuid7 import uuid7

MAX_BATCH = 1000
"""How many events the broker takes in one request."""


@dataclass(frozen=True, slots=True)
class Published:
    """The broker's receipt for one event: it is on disk.

    `sequence` is its place in the topic, None for an event that waits for its `deliverat`;
    `duplicate` says that the topic had an event of this source and id before, and kept that one.
    """

    id: str
    sequence: int | None
    duplicate: bool


class EventPublisher(Closing):
    """Publishes events; each method returns once they are on the broker's disk.

    Each raises BrokerRefused where the broker says that the request is wrong, BrokerUnavailable
    where it stays out of reach. `source` is for `publish_data`.
    """

    def __init__(self, source: str | None = None) -> None:
        self._source = source

    @abstractmethod
    def publish(self, topic: str, event: Event) -> Published:
        """Publish one event."""

    @abstractmethod
    def publish_batch(self, topic: str, events: Sequence[Event]) -> list[Published]:
        """Publish up to 1,000 events in one request, all or none; return receipts in order."""

    @abstractmethod
    def publish_encoded(
        self, topic: str, events: Sequence[str], *, max_attempts: int | None = None
    ) -> list[Published]:
        """Publish a batch of events that `Event.to_json` has written before."""

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
        """Publish `data` as a new event of the publisher's `source`, or `/topics/<topic>`.

        `key` is the event's partitionkey. With an `id` of the caller's own, the call may be
        repeated even by another process.
        """
        event = data_event(topic, data, self._source, type=type, key=key, id=id, subject=subject)
        return self.publish(topic, event)


def data_event(
    topic: str,
    data: Any,
    source: str | None,
    *,
    type: str,
    key: str | None,
    id: str | None,
    subject: str | None,
) -> Event:
    """Make the event that `publish_data` publishes."""
    return Event(
        type=type,
        source=f"/topics/{topic}" if source is None else source,
        data=data,
        id=uuid7() if id is None else id,
        subject=subject,
        partitionkey=key,
    )


def check_count(events: Sequence[object]) -> None:
    """Raise ValueError for more events than one request takes."""
    if len(events) > MAX_BATCH:
        raise ValueError(f"a batch has at most {MAX_BATCH} events, not {len(events)}")
