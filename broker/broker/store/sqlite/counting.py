"""Counts what subscriptions are owed, each count as of one instant."""

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

from broker.model import RowState
from broker.store.port import ShardStats, Standing, Unavailable
from broker.store.sqlite.block import stored_at
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.queries import SQL
from broker.store.sqlite.shard import SqliteShard

T = TypeVar("T")


class Counting:
    """Counts in a thread, on a snapshot of the file.

    What fails moves from a shard's memory to a row of the file; who counts the one and then the
    other counts some of it in neither. So a snapshot begins in the very turn of the event loop in
    which memory is read, and when what is on its way between the two is known. What a seek is about
    to remove is counted no more.
    """

    def __init__(
        self, connection: sqlite3.Connection, threads: Executor, group: GroupCommit
    ) -> None:
        self._connection = connection  # its alone, for what it has begun shows to all who read
        self._threads = threads
        self._group = group
        self._vacant = asyncio.Lock()

    async def stats(self, shard: SqliteShard) -> ShardStats:
        """Count what one subscription is owed and what its rows say. Raises LeaseLost."""
        return await self._counted(shard.rows_written, lambda: self._stats_of(shard))

    async def standings(self, shards: Collection[SqliteShard]) -> list[Standing]:
        """Count what each is owed, without waiting for rows on their way from state to state."""
        return await self._counted(self._after_a_commit, lambda: self._standings_of(shards))

    async def _counted(
        self, ready: Callable[[], Awaitable[None]], begin: Callable[[], Callable[[], T]]
    ) -> T:
        """Read memory and begin the snapshot at an instant; count on the snapshot in the thread."""
        await self._vacant.acquire()
        try:
            await ready()
            count = begin()
            self._connection.execute("BEGIN")
            self._connection.execute(SQL["log_id"]).fetchone()  # only reading begins it
            counting = asyncio.get_running_loop().run_in_executor(self._threads, self._end, count)
        except BaseException:
            self._connection.rollback()
            self._vacant.release()
            raise
        # Whoever asked may be gone before the thread is.
        counting.add_done_callback(lambda _: self._vacant.release())
        return await asyncio.shield(counting)

    def _end(self, count: Callable[[], T]) -> T:
        try:
            return count()
        finally:
            self._connection.rollback()

    async def _after_a_commit(self) -> None:
        with suppress(Unavailable):  # then there are no more commits at all
            self._group.ring()
            await self._group.durable()

    def _stats_of(self, shard: SqliteShard) -> Callable[[], ShardStats]:
        first_owed, unsettled = shard.first_unwritten(), shard.unsettled()
        position, arriving, void = shard.position(), shard.arriving(), shard.seeking

        def count() -> ShardStats:
            counted = self._connection.execute(SQL["count_rows"], (shard.id,)).fetchall()
            counted = [each for each in counted if each[0] == "dead" or not void]
            (keys,) = self._connection.execute(SQL["count_blocked_keys"], (shard.id,)).fetchone()
            rows = _together(arriving, {state: number for state, number, _ in counted})
            backlog = unsettled + _owed(rows)
            first = min([first_owed, *(seq for state, _, seq in counted if state != "dead")])
            oldest = self._stored_at(shard.topic_id, first) if backlog else None
            return ShardStats(position, backlog, rows, keys, oldest)

        return count

    def _standings_of(self, shards: Collection[SqliteShard]) -> Callable[[], list[Standing]]:
        at = [
            (each.id, each.topic_id, each.first_unwritten(), each.unsettled(), each.arriving())
            for each in shards
        ]
        void = {each.id for each in shards if each.seeking}

        def count() -> list[Standing]:
            counted: defaultdict[int, dict[str, int]] = defaultdict(dict)
            first: dict[int, int] = {}
            for shard, state, number, seq in self._connection.execute(SQL["count_all_rows"]):
                if state != "dead" and shard in void:
                    continue
                counted[shard][state] = number
                if state != "dead":
                    first[shard] = min(first.get(shard, seq), seq)
            standings = []
            for shard, topic, first_owed, unsettled, arriving in at:
                rows = _together(arriving, counted[shard])
                backlog = unsettled + _owed(rows)
                seq = min(first.get(shard, first_owed), first_owed)
                oldest = self._stored_at(topic, seq) if backlog else None
                standings.append(Standing(backlog, rows, oldest))
            return standings

        return count

    def _stored_at(self, topic: int, seq: int) -> float | None:
        row = self._connection.execute(SQL["block_at"], (topic, seq)).fetchone()
        return None if row is None else stored_at(row, seq)


def _together(arriving: Mapping[RowState, int], counted: Mapping[str, int]) -> dict[str, int]:
    together: Counter[str] = Counter(counted)
    together.update(arriving)
    return dict(together)


def _owed(rows: Mapping[str, int]) -> int:
    return sum(number for state, number in rows.items() if state != "dead")
