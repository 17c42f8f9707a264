"""What the broker needs of a store. Callers see this and never an engine.

Vocabulary
    seq        grows strictly within a topic, in the order of appending; 0 is before the first.
               Callers must not count on it being without gaps.
    position   per shard: every message at or below it is done or has an exception row.
    exception  the only state a message has for itself: retry, held, leased or dead. Everything else
               is the position. There is no row for a delivery that went well.
    shard      the unit of ownership of a subscription. A key always falls into one shard.

Every sentence below has a test in tests/contract, which runs on every store.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from broker.model import Appended, ExceptionRow, FailedAttempt, Message, NewMessage

Document: TypeAlias = dict[str, Any]


class StoreError(Exception):
    """The store could not do it."""


class Unavailable(StoreError):
    """The outcome is unknown: the write may or may not have happened. Repeat the same call."""


class LeaseLost(StoreError):
    """The shard is no longer owned here. Stop at once and send nothing more."""


class Conflict(StoreError):
    """A compare-and-set found another revision than was expected."""


class IdTaken(StoreError):
    """An id of this append names another message already. Nothing of the append was stored."""

    def __init__(self, source: str, id_: str) -> None:
        super().__init__(id_)
        self.source = source
        self.id = id_


class Locked(StoreError):
    """Another broker owns this store."""


class Unusable(StoreError):
    """The store cannot be opened: the text says why and what would help."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one commit of a shard writes, in the order of the fields."""

    put: Sequence[ExceptionRow] = ()
    done: Sequence[int] = ()
    drop: Sequence[int] = ()
    failed: Sequence[FailedAttempt] = ()


@dataclass(frozen=True, slots=True)
class Due:
    """A row whose time has come, with its message."""

    row: ExceptionRow
    message: Message


@dataclass(frozen=True, slots=True)
class TopicStats:
    """What a topic's log holds. `first_sequence` is the next one where it is empty."""

    message_count: int
    bytes: int
    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class ShardStats:
    """How far a subscription is.

    `rows` counts exception rows by state, `blocked_keys` the keys that have held ones;
    `oldest_unsettled_at` is when the oldest owed message was stored.
    """

    position: int
    backlog: int
    rows: Mapping[str, int]
    blocked_keys: int
    oldest_unsettled_at: float | None


class Shard(Protocol):
    """Owned by this process from claim to release. Only one task calls its methods."""

    topic: str
    subscription: str
    id: int
    topic_id: int  # differs for a topic made anew under an old name
    bell: asyncio.Event

    def room(self) -> int:
        """Return how many more messages may be handed out and neither done nor put."""

    async def fetch(self, limit: int) -> Sequence[Message]:
        """Return the next messages in ascending seq, none skipped, each handed out once a claim.

        At most `limit`, and at most `room()`; [] when there is nothing new, and then the bell rings
        when there is. After an unclean end it starts again at the lowest seq that is not done, so
        seqs that are done or have a row may come again, but for those that `covers` tells of.
        """

    def covers(self, seq: int) -> bool:
        """Say whether a fetched seq had a row at the claim: the row wins, the caller says done."""

    async def due(self, now: float, limit: int, skip: frozenset[int]) -> Sequence[Due]:
        """Return `retry` rows with due_at <= now, the longest due first, but for seqs in `skip`."""

    async def next_due_at(self, skip: frozenset[int]) -> float | None:
        """Return the earliest due_at of the `retry` rows, but for seqs in `skip`."""

    async def held(self, key: str | None, after: int, limit: int) -> Sequence[Due]:
        """Return the `held` rows of one key, None for all, with seq > after, ascending."""

    async def waiting_keys(self) -> Sequence[str]:
        """Return every key that has a row which is not dead."""

    async def regroup(self, ordering: str) -> None:
        """Make the rows fit the ordering, before the first `due` of a claim and after a change.

        By `key`, each key's first row is `retry` and its others are `held`; by `topic`, the first
        of all is `retry` and all others are `held`; by `none`, none is `held`.
        """

    def commit(self, changes: Changes, *, soon: bool = False) -> Awaitable[None]:
        """Write put, then done, then drop and failed, in one transaction.

        With `soon` the awaitable ends when it is durable, and raises Unavailable if the outcome is
        unknown; without, it ends at once and the commit follows within 50 ms. `put` also counts as
        done for the position. Repeating the same Changes is harmless.
        """


class Store(Protocol):
    """A log of messages per topic, positions on it, and small documents."""

    # -- log
    async def append(self, topic: str, messages: Sequence[NewMessage]) -> Sequence[Appended]:
        """Append in list order, all or none; durable when it returns.

        A message whose source and id the topic has seen within the dedup window is not stored
        again: it comes back with duplicate=True and the first one's seq, once that one is durable,
        and does not fail the rest. Raises IdTaken for a seen id with another fingerprint,
        Unavailable if the outcome is unknown.
        """

    async def read(
        self, topic: str, after: int, limit: int, key: str | None = None, type_: str | None = None
    ) -> tuple[Sequence[Message], int | None]:
        """Return messages with seq > after, ascending, and where to read on, None at the end."""

    async def locate(self, topic: str, at: float) -> int:
        """Return the smallest seq stored at or after Unix time `at`; one past the last if none."""

    def topic_stats(self, topic: str) -> TopicStats:
        """Count what the topic holds, without reading it."""

    # -- documents
    def documents(self, prefix: str) -> Mapping[str, tuple[Document, int]]:
        """Return every document whose key begins with `prefix`, with its revision."""

    async def put_document(self, key: str, document: Document, expect: int | None) -> int:
        """Write a document if its revision is `expect` (0: must not exist); return the new one.

        Durable on return. Raises Conflict.
        """

    # -- topics and subscriptions: a document and a place in the store, made and removed together
    async def create_topic(self, topic: str, document: Document) -> None:
        """Create an empty log. Raises Conflict if it exists."""

    async def drop_topic(self, topic: str) -> None:
        """Remove the log, its subscriptions and everything they hold. Idempotent."""

    async def create_subscription(
        self, topic: str, subscription: str, document: Document, start: int
    ) -> None:
        """Create a subscription whose first message is the first with seq >= start.

        From its return on nothing stored with seq >= start is lost for it. Raises Conflict if it
        exists.
        """

    async def drop_subscription(self, topic: str, subscription: str) -> None:
        """Remove the position and all rows. Idempotent.

        The owner's bell rings, and its next call but `room` and `covers` raises LeaseLost.
        """

    def claim(self) -> AsyncIterator[Shard]:
        """Yield each shard that this process comes to own, for ever."""

    async def shard_stats(self, topic: str, subscription: str) -> ShardStats:
        """Tell how far a subscription is, without reading its backlog."""

    # -- life
    log_id: str  # tells this store's messages from those of every other

    async def open(self) -> None:
        """Take ownership. Raises Locked or Unusable."""

    async def close(self) -> None:
        """Commit what is pending and let go."""

    def lock_descriptor(self) -> int | None:
        """Return what a child inherits to keep the store owned while it lives, if anything."""

    def writable(self) -> str | None:
        """Return None while the store takes writes, else why not."""

    def free_bytes(self) -> int:
        """Return the room left where the store keeps its data."""
