"""Removing what is no longer needed, a little at a time, through the group commit.

A batch is small because it runs on the event loop: 1,000 messages of 200 bytes take half a
millisecond, 2 MiB in large ones about three.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple, TypeAlias, TypeVar

from broker.store.port import LogEntry, Unavailable
from broker.store.sqlite.block import MOST_MESSAGES, entries_in, insertions, taken_out
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.journal import Executes
from broker.store.sqlite.log import TopicLog
from broker.store.sqlite.queries import SQL, Query
from broker.store.sqlite.shard import SqliteShard

# Of the topic with an id, from a seq on, so many at most.
Oldest: TypeAlias = Callable[[int, int, int], Awaitable[list[LogEntry]]]

BATCH_ROWS = 1000
BATCH_BYTES = 2 * 1024 * 1024
BATCH_IDS = 200  # ids that are no times lie all over their table
BATCH_RUNS = 20  # of 128 ids each, which lie side by side
SHARDS_AT_ONCE = 500  # looked at without a pause for what publishes and delivers
PAUSE_S = 0.005
IDLE_S = 1.0
MOST_ATTEMPTS = 100_000
ATTEMPTS_COUNTED_EVERY_S = 60.0


class Kept(NamedTuple):
    """A message that is part of the log no more, and its size in bytes."""

    seq: int
    size: int


Statement: TypeAlias = tuple[str, tuple[Any, ...]]
Sized = TypeVar("Sized", LogEntry, Kept)


class Trim:
    """Removes the beginning of logs, as far as nobody is owed it.

    A message that has a row (of a dead letter, at that place) stays until the row goes, taken out
    of its block. It is part of the log no more: nothing that reads or counts the log sees it. A
    block stays in the file until all of it is to be removed.
    """

    def __init__(self, group: GroupCommit, query: Query, oldest: Oldest) -> None:
        self._group = group
        self._query = query
        self._oldest = oldest
        self._trimmed: dict[int, TopicLog] = {}
        self.with_kept: dict[int, TopicLog] = {}
        self.begun_at: dict[int, int] = {}  # the first seq of what has been removed of a topic

    async def oldest(self, topic: TopicLog, limit: int) -> list[LogEntry]:
        """Return what the log begins with."""
        return await self._oldest(topic.id, topic.first_seq, limit)

    async def trim(
        self, topic: TopicLog, shards: Callable[[], Sequence[SqliteShard]], before: int
    ) -> int:
        """Remove one batch of messages below a seq; return the first that is left."""
        first = topic.first_seq
        if before <= first:
            return first
        as_of = _state_of(topic, shards())
        ((owed,),) = await self._query("first_owed", (topic.id, first))
        entries = await self.oldest(topic, min(BATCH_ROWS, before - first))
        last = entries[-1].seq if entries else first
        kept = [seq for (seq,) in await self._query("seqs_with_rows", (topic.id, first, last))]
        blocks = await self._query("blocks_among", (topic.id, json.dumps(kept))) if kept else ()

        # From here on nothing can come in between: the group that removes the batch is the one
        # that any later seek is written with, or one before.
        if _state_of(topic, shards()) != as_of:
            return topic.first_seq
        bounds = [before, *(shard.position() + 1 for shard in shards())]
        end = min(bounds if owed is None else [owed, *bounds])
        batch = _within_bytes(takewhile(lambda entry: entry.seq < end, entries))
        if not batch:
            return first
        end = batch[-1].seq + 1
        spared = [seq for seq in kept if seq < end]
        apart = insertions(taken_out(topic.id, blocks, spared, end))
        self._group.open.statements += [
            *_deletion(topic.id, first, end, spared),
            *((statement, row) for statement, rows in apart for row in rows),
        ]
        topic.first_seq = end
        topic.message_count -= len(batch)
        topic.bytes -= sum(entry.size for entry in batch)
        self._trimmed[topic.id] = topic
        self._group.open.writers[self] = None
        self._group.ring()
        await self._group.durable()
        self.begun_at.setdefault(topic.id, first)
        if spared:
            self.with_kept[topic.id] = topic  # only now is it there for whoever looks
        return end

    def write(self, connection: Executes) -> None:
        """Write the counts as they are with everything that this group writes."""
        trimmed, self._trimmed = self._trimmed, {}
        connection.executemany(
            SQL["update_topic_first"],
            [(t.first_seq, t.message_count, t.bytes, t.id) for t in trimmed.values()],
        )

    def written(self) -> None:
        """Hear that what was written is durable."""


class Purge:
    """A task that removes what nothing refers to any more."""

    def __init__(
        self,
        group: GroupCommit,
        query: Query,
        oldest: Oldest,
        topics: Mapping[str, TopicLog],
        shards: Mapping[tuple[str, str], SqliteShard],
        trim: Trim,
        attempted: dict[SqliteShard, int],
        now: Callable[[], float],
    ) -> None:
        self._group = group
        self._query = query
        self._oldest = oldest
        self._topics = topics
        self._shards = shards
        self._trim = trim
        self._now = now
        self._ids_as_of: float | None = None  # while there are ids to remove
        self._dropped: dict[int, None] = {}
        self._expired: list[tuple[int, str, str, float]] = []
        self._expired_runs: list[tuple[int, str, str]] = []
        self._oldest_id: dict[int, float] = {}
        self._looked_at: dict[int, int] = {}
        self._attempted = attempted  # from which seq on attempts may have to go
        self._attempts_counted_at = 0.0

    def dropped_subscription(self, id_: int) -> None:
        """Have the rows of a subscription removed that is gone."""
        self._dropped[id_] = None

    async def run(self) -> None:
        """Remove batch after batch, for ever."""
        for (topic,) in await self._query("topics_with_kept", ()):
            found = next((each for each in self._topics.values() if each.id == topic), None)
            if found is not None:
                self._trim.with_kept[topic] = found
        for (subscription,) in await self._query("rows_without_subscription", ()):
            self._dropped[subscription] = None
        with_attempts = set(await self._query("subscriptions_with_attempts", ()))
        for shard in self._shards.values():
            if (shard.id,) in with_attempts:
                self._attempted[shard] = 0
        # At once, because a query for each takes as long as a start with thousands of topics.
        now = self._now()
        for topic, oldest in await self._query("oldest_ids", ()):
            self._oldest_id[topic] = now if oldest is None else oldest
        with contextlib.suppress(Unavailable):  # the next life goes on with it
            while True:
                more = await self.turn()
                await asyncio.sleep(PAUSE_S if more else IDLE_S)

    async def turn(self) -> bool:
        """Remove one batch of everything there is to remove; say whether there may be more."""
        chores = (
            self._purge_topic,
            self._purge_subscription,
            self._purge_ids,
            self._purge_kept,
            self._purge_attempts,
        )
        return any([await chore() for chore in chores])

    async def _write(self, *statements: Statement) -> None:
        self._group.open.statements += statements
        self._group.ring()
        await self._group.durable()

    # -- dropped topics and subscriptions ----------------------------------------------------------

    async def _purge_topic(self) -> bool:
        unnamed = await self._query("list_unnamed_topics", ())
        if not unnamed:
            return False
        topic = unnamed[0][0]
        entries = await self._oldest(topic, 0, BATCH_ROWS)
        if entries:
            end = _within_bytes(entries)[-1].seq + 1
            await self._write(*_deletion(topic, 0, end))
            return True
        ids = await self._query("ids_of_topic", (topic, BATCH_IDS))
        if ids:
            await self._forget_ids(topic, ids)
            return True
        runs = await self._query("id_runs_of_topic", (topic, BATCH_RUNS))
        if runs:
            await self._forget_ids(topic, runs=runs)
            return True
        scheduled = await self._query("scheduled_of_topic", (topic, BATCH_ROWS))
        if scheduled:
            await self._write(("delete_scheduled_ids", (_list_of(scheduled),)))
            return True
        await self._write(("delete_topic", (topic,)))
        return True

    async def _purge_subscription(self) -> bool:
        if not self._dropped:
            return False
        subscription = next(iter(self._dropped))
        await self._write()  # until what it had on its way is in the file
        rows = await self._query("rows_of_subscription", (subscription, BATCH_ROWS))
        attempts = await self._query("attempts_of_subscription", (subscription, BATCH_ROWS))
        if rows or attempts:
            await self._write(
                ("delete_rows", (subscription, _list_of(rows))),
                ("delete_attempt_ids", (_list_of(attempts),)),
            )
        else:
            del self._dropped[subscription]
        return True

    # -- ids past their window ---------------------------------------------------------------------

    async def _purge_ids(self) -> bool:
        # Ids that become too old while others are removed wait for the next round, or there would
        # be a few in every turn, for good.
        as_of = self._now() if self._ids_as_of is None else self._ids_as_of
        removed = False
        for topic in list(self._topics.values()):
            if self._oldest_id.get(topic.id, 0.0) + topic.window_s > as_of:
                continue
            until = as_of - topic.window_s
            ids = await self._query("expired_ids", (topic.id, until, BATCH_IDS))
            runs = await self._query("expired_id_runs", (topic.id, until, BATCH_RUNS))
            if ids or runs:
                await self._forget_ids(topic.id, ids, runs)
                removed = True
            else:
                ((oldest,),) = await self._query("oldest_id", (topic.id,))
                self._oldest_id[topic.id] = as_of if oldest is None else oldest
        self._ids_as_of = as_of if removed else None
        return removed

    async def _forget_ids(
        self,
        topic: int,
        ids: Iterable[tuple[str, str, float]] = (),
        runs: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._expired += [(topic, *each) for each in ids]
        self._expired_runs += [(topic, *each) for each in runs]
        self._group.open.writers[self] = None
        self._group.ring()
        await self._group.durable()

    def write(self, connection: Executes) -> None:
        """Write what cannot be told in one statement."""
        expired, self._expired = self._expired, []
        connection.executemany(SQL["delete_publish_key"], expired)
        runs, self._expired_runs = self._expired_runs, []
        connection.executemany(SQL["delete_id_run"], runs)

    def written(self) -> None:
        """Hear that what was written is durable."""

    # -- messages that were kept for a row ---------------------------------------------------------

    async def _purge_kept(self) -> bool:
        removed = False
        for topic in list(self._trim.with_kept.values()):
            after = self._looked_at.get(topic.id, 0)
            place = (topic.id, after, topic.first_seq, BATCH_ROWS)
            kept = [Kept(*row) for row in await self._query("kept", place)]
            if not kept:
                self._looked_at.pop(topic.id, None)
                if after == 0:
                    self._trim.with_kept.pop(topic.id, None)
                continue
            first, last = kept[0].seq, kept[-1].seq
            with_rows = set(await self._query("seqs_with_rows", (topic.id, first, last)))
            unneeded = [message for message in kept if (message.seq,) not in with_rows]
            batch = _within_bytes(unneeded)
            # What the byte limit left over is met in the next round.
            self._looked_at[topic.id] = last if batch == unneeded else batch[-1].seq
            if batch:
                seqs = json.dumps([message.seq for message in batch])
                await self._write(
                    ("delete_small_kept", (topic.id, seqs)), ("delete_large_kept", (topic.id, seqs))
                )
                removed = True
                for shard in self._attempted:
                    if shard.topic_id == topic.id:
                        self._look_for_attempts_from(batch[0].seq, shard)
        return removed

    # -- attempts at what is settled ---------------------------------------------------------------

    async def _purge_attempts(self) -> bool:
        removed = False
        begun_at, self._trim.begun_at = self._trim.begun_at, {}
        counting = time.monotonic() - self._attempts_counted_at > ATTEMPTS_COUNTED_EVERY_S
        if counting:
            self._attempts_counted_at = time.monotonic()
        for place, shard in enumerate(list(self._attempted)):
            if place % SHARDS_AT_ONCE == SHARDS_AT_ONCE - 1:
                await asyncio.sleep(0)
            if shard.lost:
                self._attempted.pop(shard, None)
                continue
            if (trimmed := begun_at.get(shard.topic_id)) is not None:
                # The block that was removed may have begun before: what was a dead letter in it
                # when that was looked at may be none by now.
                self._look_for_attempts_from(max(0, trimmed - MOST_MESSAGES), shard)
            topic = self._topics.get(shard.topic)
            first = below = 0 if topic is None else topic.first_seq
            if counting:
                surplus = await self._query("surplus_attempts", (shard.id, MOST_ATTEMPTS))
                for (seq,) in surplus:
                    below = max(below, seq + 1)
                    self._look_for_attempts_from(0, shard)
            done = self._attempted.pop(shard, first)  # what fails from now on is for the next look
            while done < below:
                rows = await self._query("settled_attempts", (shard.id, done, below, BATCH_ROWS))
                if not rows:
                    done = below
                    break
                await self._write(("delete_attempt_ids", (_list_of(rows),)))
                done = rows[-1][1]
                removed = True
                await asyncio.sleep(PAUSE_S)
            self._look_for_attempts_from(min(done, first), shard)
        return removed

    def _look_for_attempts_from(self, seq: int, shard: SqliteShard) -> None:
        """Have the next look begin at a seq, if not before."""
        self._attempted[shard] = min(seq, self._attempted.get(shard, seq))


def _state_of(topic: TopicLog, shards: Sequence[SqliteShard]) -> object:
    """Return what changes with a seek, a new subscription, and another trim."""
    return topic.first_seq, [(shard.id, shard.generation) for shard in shards]


def _deletion(topic: int, first: int, end: int, spared: Sequence[int] = ()) -> list[Statement]:
    """Have the rows go that end at or behind `first` and before `end`, but for those spared."""
    wanted = (topic, first, end, json.dumps(spared))
    return [("delete_small_blocks", wanted), ("delete_large_blocks", wanted)]


def entries_of(rows: Iterable[Sequence[Any]], first: int, limit: int) -> list[LogEntry]:
    """Read blocks up to what a batch needs: SQLite reads each to its end."""
    entries: list[LogEntry] = []
    room = BATCH_BYTES
    for entry in entries_in(rows, first):
        entries.append(entry)
        room -= entry.size
        if room < 0 or len(entries) == limit:
            break
    return entries


def _within_bytes(entries: Iterable[Sized]) -> list[Sized]:
    """Return the first of the entries: one, and more while they are within a batch's bytes."""
    batch: list[Sized] = []
    room = BATCH_BYTES
    for entry in entries:
        room -= entry.size
        if batch and room < 0:
            break
        batch.append(entry)
    return batch


def _list_of(rows: Iterable[Sequence[Any]]) -> str:
    return json.dumps([row[0] for row in rows])
