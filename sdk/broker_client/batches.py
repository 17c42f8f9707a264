"""Cutting events, in their order, into what goes into one request."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar


class Encoded(Protocol):
    """An event as it travels: `event` is CloudEvents JSON."""

    @property
    def topic(self) -> str:
        """The topic it is for."""

    @property
    def event(self) -> str:
        """Its text."""


E = TypeVar("E", bound=Encoded)


def split_batches(events: Sequence[E], max_bytes: int) -> Iterator[list[E]]:
    """Cut events into batches of one topic each, none over `max_bytes` unless it is one event."""
    batch: list[E] = []
    size = 0
    for each in events:
        length = len(each.event.encode())
        if batch and (each.topic != batch[0].topic or size + length > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += length
    if batch:
        yield batch
