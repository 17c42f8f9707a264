"""The records that the broker's parts hand to one another.

They are msgspec structs rather than dataclasses because one is made for every message: creation
costs a tenth, and the same definition is the wire format between worker and courier.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

Turn: TypeAlias = tuple[float, int]
Conclusion: TypeAlias = Literal["settled", "extended", "lapsed"]
Result: TypeAlias = Literal["settled", "lapsed", "unknown"]
RowState: TypeAlias = Literal["retry", "held", "leased", "blocked", "dead"]

MAX_SEQUENCE = 2**53


class NewMessage(Struct, frozen=True, gc=False):
    """A message that has been checked and is ready to be stored.

    `attributes` is the CloudEvent without its data, as a JSON object in UTF-8; `data` is the bytes
    the endpoint will get, None where the event has none. `fingerprint` is the digest by which a
    repeat of a caller's own id is told from its reuse, None where the broker made the id.
    `deliver_at` is the Unix time before which it is not in the log; a message that has one has a
    fingerprint as well.
    """

    id: str
    source: str
    key: str | None
    attributes: bytes
    data: bytes | None
    fingerprint: bytes | None
    deliver_at: float | None = None


class Message(Struct, frozen=True, array_like=True, gc=False):
    """An immutable entry of a topic's log. `stored_at` is in Unix seconds.

    It goes to the courier as it is, without names: a copy of what is sent would cost more than the
    few bytes that the courier has no use for.
    """

    seq: int
    key: str | None
    attributes: bytes
    data: bytes | None
    stored_at: float


class Scheduled(Struct, frozen=True, gc=False):
    """A message that waits for its time, in Unix seconds; `number` tells ties apart."""

    deliver_at: float
    number: int
    attributes: bytes
    data: bytes | None

    @property
    def turn(self) -> Turn:
        """When it joins the log, in comparison with others."""
        return self.deliver_at, self.number


def size_of(message: NewMessage | Message | Scheduled) -> int:
    """Return how many bytes of a message count."""
    return len(message.attributes) + (len(message.data) if message.data is not None else 0)


def sizes_of(messages: Sequence[NewMessage | Message]) -> list[int]:
    """Return the `size_of` each message, without a call for each."""
    return [len(message.attributes) + len(message.data or b"") for message in messages]


class Appended(Struct, frozen=True, gc=False):
    """Where a message stands; `sequence` is None while it waits for its time."""

    id: str
    sequence: int | None
    duplicate: bool


class ExceptionRow(Struct, frozen=True, gc=False):
    """A delivery that is not simply done. `due_at` is in Unix seconds.

    A `held` row waits behind another, and then until its due_at if that is later.
    `attempts` counts the attempts that have ended; `reason` says why the last one failed. A
    `leased` row whose due_at is infinite belongs to a request that is out; one with a time is a
    lease that lapses then. `replayed` marks a dead letter that was made owed again; `since` is when
    it came into its state, and where that is not dead when it was replayed, in Unix seconds.
    """

    seq: int
    key: str | None
    state: RowState
    attempts: int = 0
    due_at: float = 0.0
    reason: str = ""
    replayed: bool = False
    since: float = 0.0


class FailedAttempt(Struct, frozen=True, gc=False):
    """What one failed attempt met. `status` is None where no answer came."""

    seq: int
    attempt: int
    at: float
    status: int | None
    error: str
    duration_ms: int
    answer: str
