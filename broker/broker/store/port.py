"""What the broker needs of a store. Callers see this and never an engine.

Vocabulary
    seq        grows strictly within a topic, in the order of appending; 0 is before the first.
               Callers must not count on it being without gaps.
    position   per shard: every message at or below it is done or has an exception row.
    exception  the only state a message has for itself: retry, held, leased, blocked or dead.
               Everything else is the position. There is no row for a delivery that went well.
    shard      the unit of ownership of a subscription. A key always falls into one shard.
    page       what `fetch`, `due`, `held` and `owed` return: at most `limit` of what there is, and
               beyond the first nothing once the messages so far have PAGE_BYTES.

Every sentence below has a test in tests/contract, which runs on every store.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from broker.histogram import Histogram
from broker.model import (
    Appended,
    ExceptionRow,
    FailedAttempt,
    Message,
    NewMessage,
    RowState,
    Scheduled,
    Turn,
)

PAGE_BYTES = 1024 * 1024

Document: TypeAlias = dict[str, Any]
Wants: TypeAlias = Callable[[bytes], bool]


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
    """What one commit of a shard writes, in the order of the fields.

    `hold_until`, where given, is the Unix time before which nothing more is sent.
    """

    put: Sequence[ExceptionRow] = ()
    done: Sequence[int] = ()
    drop: Sequence[int] = ()
    failed: Sequence[FailedAttempt] = ()
    hold_until: float | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A row with its message."""

    row: ExceptionRow
    message: Message


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A message without what is in it. `stored_at` is in Unix seconds, `size` in bytes."""

    seq: int
    stored_at: float
    size: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A delivery whose key, if it has one, is taken until a Unix time."""

    seq: int
    key: str | None
    until: float


@dataclass(frozen=True, slots=True)
class TopicStats:
    """What a topic's log holds. `first_sequence` is the next one where it is empty.

    `scheduled_count` and `scheduled_bytes` are of the messages that wait to join it.
    """

    message_count: int
    bytes: int
    first_sequence: int
    last_sequence: int
    scheduled_count: int = 0
    scheduled_bytes: int = 0


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


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a subscription is; its `rows` are those of the last commit."""

    backlog: int
    rows: Mapping[str, int]
    oldest_unsettled_at: float | None


@dataclass(frozen=True, slots=True)
class StoreMeasures:
    """What a store tells of itself: its commits in seconds, its room in bytes."""

    commits: Histogram
    wal_bytes: int
    file_bytes: int
    reusable: int
    free: int


class Shard(Protocol):
    """Owned by this process from claim to release. Only one task calls its methods."""

    topic: str
    subscription: str
    id: int
    topic_id: int  # differs for a topic made anew under an old name
    bell: asyncio.Event
    generation: int  # how many seeks there have been
    replay_until: int  # messages at or below were handed out before a seek
    hold_until: float  # as the last commit that named one has it
    lost: bool  # no longer owned here
    covered_until: int  # at the claim: the highest seq above the position that has a row, or 0
    fetched: int  # the highest seq that fetch has looked at since the claim or the last seek

    def select(self, wants: Wants | None) -> None:
        """Fetch, from now on, only messages with attributes that are wanted; None for all.

        The others are passed: done with as soon as fetch or give_up meets them, without a row. That
        is written with the next commit of the shard, or within a second or so.
        """

    def behind(self) -> bool:
        """Say whether there are messages that fetch has not looked at."""

    def position(self) -> int:
        """Return the position that the next commit writes."""

    def owes(self, seq: int) -> bool:
        """Say whether a message that has no row is not done: not fetched, or handed out."""

    def room(self) -> int:
        """Return how many more messages may be handed out and neither done nor put."""

    def outstanding_bytes(self) -> int:
        """Return how many bytes the messages have that are handed out and neither done nor put."""

    async def fetch(self, limit: int) -> Sequence[Message]:
        """Return the next messages in ascending seq, none skipped, each handed out once a claim.

        At most `limit`, and at most `room()`; [] when there is nothing new, and then the bell rings
        when there is. Where many in a row are not wanted, [] as well, and the bell rings at once.
        After an unclean end it starts again at the lowest seq that is not done, so seqs that are
        done may come again; one that has a row comes by its row only.
        """

    async def due(self, now: float, limit: int, skip: frozenset[int]) -> Sequence[Due]:
        """Return rows with due_at <= now, the longest due first, but for seqs in `skip`.

        They are `retry`, or `leased` by a lease that has lapsed.
        """

    async def next_due_at(self, skip: frozenset[int]) -> float | None:
        """Return the earliest finite due_at of `retry` and `leased` rows, not of seqs in `skip`."""

    async def held(self, key: str, after: int, limit: int) -> Sequence[Due]:
        """Return the `held` rows of one key with seq > after, ascending.

        None that stands behind a row of the key in another state that is not dead, and none at all
        while one of the key is leased.
        """

    async def row(self, seq: int) -> Due | None:
        """Return the row of one seq, whatever its state, with its message."""

    async def leased_among(self, seqs: Sequence[int]) -> Mapping[int, Due]:
        """Return the `leased` rows of these seqs, by seq, their messages without content."""

    async def owed(self, limit: int, skip: frozenset[int]) -> Sequence[Due]:
        """Return `retry`, `leased` and `blocked` rows by ascending seq, but for seqs in `skip`."""

    async def leases(self) -> Sequence[Lease]:
        """Return the leases that lapse at a time, of all keys and of none."""

    async def first_of(self, key: str) -> int | None:
        """Return the lowest seq of a key's `retry`, `leased` and `blocked` rows."""

    async def firsts(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Return the lowest seq of each key's rows that are not dead, where there are any."""

    async def waiting_keys(self, limit: int) -> Sequence[str]:
        """Return keys that have a row which is not dead: every one, or `limit` of them."""

    async def waiting_among(self, keys: Sequence[str]) -> Sequence[str]:
        """Return those of `keys` that have a row which is not dead."""

    async def regroup(self, ordering: str) -> None:
        """Make the rows fit the ordering, before the first `due` of a claim and after a change.

        By `key`, a key's first row that is not dead is not `held`, unless one of the key is
        `leased`, and `retry` ones behind it are; by `topic` and `none`, none is `held`. Each keeps
        its due_at.
        """

    async def seek(self, position: int) -> None:
        """Begin again after `position`, durable on return; cut off, it is whole at the next start.

        Drops every row that is not dead, and dead ones above the position. What was handed out
        before is no longer outstanding, and is not to be committed any more.
        """

    async def replay(
        self, seqs: Sequence[int] | None, busy: Sequence[str] | None, now: float
    ) -> int:
        """Make dead rows, all for None, due again as though never attempted; return how many.

        With `busy`, keys are held in order: rows of those in `busy`, and of those whose first row
        is another, become `held`. Durable on return.
        """

    async def give_up(
        self, before: int, since: float, skip: frozenset[int], reason: str, limit: int, now: float
    ) -> tuple[int, Sequence[str]]:
        """Make dead what is owed below a seq: `limit` at most of its rows, and of what comes next.

        Spared are leased rows, those of seqs in `skip`, and replayed ones that are younger than
        `since`; what is not wanted is passed. Returns how many it dealt with, and which keys are
        left with no rows but `held` ones. Durable on return.
        """

    def commit(self, changes: Changes, *, soon: bool = False) -> Awaitable[None]:
        """Write put, then done, then drop and failed, in one transaction.

        With `soon` the awaitable ends when it is durable, and raises Unavailable if the outcome is
        unknown; without, it ends at once and the commit follows within 50 ms. `put` also counts as
        done for the position. Repeating the same Changes is harmless.
        """


class Waiter(Protocol):
    """Waits for something to be on disk, and is told of it once. A future is one."""

    def done(self) -> bool:
        """Say whether it waits no more."""

    def set_result(self, result: None, /) -> None:
        """Hear that it is on disk."""

    def set_exception(self, error: Exception, /) -> None:
        """Hear that it may not be."""


class Store(Protocol):
    """A log of messages per topic, positions on it, and small documents."""

    # -- log
    async def append(self, topic: str, messages: Sequence[NewMessage]) -> Sequence[Appended]:
        """Append in list order, all or none; durable when it returns.

        A message whose source and id the topic has seen within the dedup window is not stored
        again: it comes back with duplicate=True and the first one's seq, once that one is durable,
        and does not fail the rest. Raises IdTaken for a seen id with another fingerprint,
        Unavailable if the outcome is unknown.

        A message whose deliver_at is ahead waits, without a seq, and is appended when it is due:
        exactly once, in the order of deliver_at, ties in the order in which they were stored. Its
        id counts as seen from now until the dedup window after it joined the log.
        """

    def append_soon(
        self, topic: str, messages: Sequence[NewMessage], waiter: Waiter
    ) -> Sequence[Appended]:
        """Begin what `append` does, and return what that returns; `waiter` is told when it would.

        IdTaken is raised at once, and then nothing is appended; of Unavailable the waiter is told.
        """

    async def scheduled(
        self, topic: str, after: Turn, limit: int
    ) -> tuple[Sequence[Scheduled], Turn | None]:
        """Return waiting messages in the order in which they will join the log, and where to read
        on, None at the end. There may be fewer than `limit`, or none, before the end."""

    async def find_scheduled(self, topic: str, source: str, id: str) -> Scheduled | None:
        """Return a message that waits, None once it has joined the log or been cancelled."""

    async def cancel_scheduled(self, topic: str, source: str, id: str) -> bool:
        """Remove a waiting message and forget its id; False if none waits. Durable on return.

        A message is cancelled or joins the log, never both.
        """

    async def read(
        self,
        topic: str,
        after: int,
        limit: int,
        key: str | None = None,
        type_: str | None = None,
        id_: str | None = None,
    ) -> tuple[Sequence[Message], int | None]:
        """Return messages with seq > after, ascending, and where to read on, None at the end."""

    async def locate(self, topic: str, at: float) -> int:
        """Return the smallest seq stored at or after Unix time `at`; one past the last if none."""

    async def sequences_of(self, topic: str, id: str) -> Sequence[int]:
        """Return the seqs, ascending, of the log's messages with an id that publishers chose.

        Only ids within the topic's deduplication window are known, of 1,000 sources at most, the
        first in order. A message that waits for its time has no seq yet, and is left out.
        """

    def topic_stats(self, topic: str) -> TopicStats:
        """Count what the topic holds, without reading it."""

    async def oldest(self, topic: str, limit: int) -> Sequence[LogEntry]:
        """Return some of the log's oldest messages, ascending: `limit` at most, one at least.

        None of a log that is empty, or of a topic that is gone.
        """

    async def trim(self, topic: str, before: int) -> int:
        """Remove some of the oldest messages with seq < before; return the first that is left.

        Only what no subscription is owed is removed, as much as a publish may wait for: call again
        while there is more to do. What is removed is read and counted no more, and nobody can
        start or seek there; but a message with a row stays readable with the row. Durable on
        return.
        """

    def watch(
        self, topic: str, after: int | None, key: str | None = None, type_: str | None = None
    ) -> AsyncGenerator[Sequence[Message], None]:
        """Yield messages with seq > after, ascending, none left out, and go on as they come.

        They come a few at a time where they are large, and no more are read before these are taken.
        None begins with the next one; `key` and `type_` let only those through. Ends when the topic
        is dropped. Raises KeyError at the first step if it does not exist.
        """

    # -- documents
    def documents(self, prefix: str) -> Mapping[str, tuple[Document, int]]:
        """Return every document whose key begins with `prefix`, with its revision."""

    async def put_document(self, key: str, document: Document, expect: int | None) -> int:
        """Write a document if its revision is `expect` (0: must not exist); return the new one.

        A subscription's is written in one transaction with its position, which is then as its shard
        has it now. Durable on return. Raises Conflict.
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

        The owner's bell rings, and its next call but `position`, `room` and `outstanding_bytes`
        raises LeaseLost.
        """

    def claim(self) -> AsyncIterator[Shard]:
        """Yield each shard that this process comes to own, for ever."""

    async def rows(
        self, topic: str, subscription: str, states: Sequence[RowState], after: int, limit: int
    ) -> Sequence[Due]:
        """Return rows in these states with seq > after, ascending."""

    async def attempts(self, topic: str, subscription: str, seq: int) -> Sequence[FailedAttempt]:
        """Return the last failed attempts of a delivery, the oldest first, 20 at most."""

    async def first_owed(self, topic: str, subscription: str) -> int | None:
        """Return the smallest seq that a subscription is owed, None if it is owed nothing.

        Its topic may be dropped meanwhile.
        """

    async def drop_dead(self, topic: str, subscription: str, until: float) -> int:
        """Remove some of the rows that have been dead since `until`, a Unix time, or longer.

        Returns how many; call again until there is none left. Durable on return.
        """

    async def shard_stats(self, topic: str, subscription: str) -> ShardStats:
        """Tell how far a subscription is, without reading its backlog."""

    async def standings(self) -> Mapping[tuple[str, str], Standing]:
        """Tell how far every subscription is, by topic and name, at the cost of one look."""

    def measures(self) -> StoreMeasures:
        """Tell of the store itself."""

    # -- life
    log_id: str  # tells this store's messages from those of every other

    async def open(self) -> None:
        """Take ownership. Raises Locked or Unusable.

        Where several brokers share a store, this waits until it is this one's turn.
        """

    async def standing_by(self) -> None:
        """End when `open` has to wait for another broker; never where there can be none."""

    def owner(self) -> str | None:
        """Return the URL of the broker that owns the store instead, while `open` waits.

        None where it is not known, and where it is this one.
        """

    def rpc_owner(self) -> str | None:
        """Return where the gRPC of that broker is, a host and a port; None likewise."""

    def follows(self) -> bool:
        """Say whether this broker could own the store at once: what it waits with is the newest."""

    def may_send_until(self) -> float:
        """Return when to begin no more requests, as boot_time has it.

        It is moved on while this broker owns the store; inf where nobody can take it away.
        """

    async def close(self, follower: str | None = None) -> None:
        """Commit what is pending and let go.

        Where several brokers share a store, `follower` is the URL of the one that is to own it
        next: it does at once, and the others hold off as long as if this one had been killed.
        """

    async def scrub(self) -> None:
        """Leave nothing in the files of what the store held before and does not hold now.

        It takes as long as writing all of it, and meanwhile no write ends. Raises StoreError where
        it could not be done; nothing is lost then.
        """

    def lock_descriptor(self) -> int | None:
        """Return what a child inherits to keep the store owned while it lives, if anything."""

    def writable(self) -> str | None:
        """Return None while the store takes writes, else why not."""

    def free_bytes(self) -> int:
        """Return the room left where the store keeps its data."""

    def reusable_bytes(self) -> int:
        """Return the room within the store's own files, left by what has been removed."""
