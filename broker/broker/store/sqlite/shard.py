"""A subscription's position and its exception rows."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Iterable, Sequence

from broker.model import ExceptionRow, FailedAttempt, Message
from broker.store.port import Changes, Due, LeaseLost
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.log import Log, TopicLog
from broker.store.sqlite.queries import SQL

WINDOW = 8192
_REGROUP = {
    "key": ("hold_behind_first_of_key", "free_first_of_key"),
    "topic": ("hold_behind_first_of_all", "free_first_of_all"),
    "none": ("free_all_held",),
}


class SqliteShard:
    """The one shard of a subscription. It adds what it has to write to the open group."""

    def __init__(
        self,
        id_: int,
        subscription: str,
        topic: TopicLog,
        position: int,
        covered: Iterable[int],
        with_rows: bool,
        log: Log,
        group: GroupCommit,
        reader: sqlite3.Connection,
    ) -> None:
        self.id = id_
        self.topic = topic.name
        self.topic_id = topic.id
        self.subscription = subscription
        self.bell = asyncio.Event()
        self._ever_rows = with_rows
        self._topic = topic
        self._log = log
        self._group = group
        self._reader = reader
        self._written_position = position
        self._fetched = position
        self._outstanding: dict[int, None] = {}
        self._covered = set(covered)  # above the position, until they are fetched and settled
        self._rows: dict[int, ExceptionRow | None] = {}
        self._failed: list[FailedAttempt] = []
        self._writing = False
        self.lost = False
        self.changes = 0
        topic.followers.append(self)

    # -- the port --------------------------------------------------------------------------------

    def room(self) -> int:
        return WINDOW - len(self._outstanding)

    async def fetch(self, limit: int) -> Sequence[Message]:
        self._require_owned()
        page = self._log.page(self._topic, self._fetched, min(limit, self.room()))
        if page:
            self._fetched = page[-1].seq
            self._outstanding.update(dict.fromkeys([message.seq for message in page]))
        return page

    def covers(self, seq: int) -> bool:
        return seq in self._covered

    async def due(self, now: float, limit: int, skip: frozenset[int]) -> Sequence[Due]:
        await self.rows_durable()
        parameters = (self._topic.id, self.id, now, limit + len(skip))
        found = map(_due, self._reader.execute(SQL["due"], parameters))
        return [due for due in found if due.row.seq not in skip][:limit]

    async def next_due_at(self, skip: frozenset[int]) -> float | None:
        await self.rows_durable()
        if not self._ever_rows:
            return None
        rows = self._reader.execute(SQL["next_due_at"], (self.id, len(skip) + 1))
        return next((due_at for seq, due_at in rows if seq not in skip), None)

    async def held(self, key: str | None, after: int, limit: int) -> Sequence[Due]:
        await self.rows_durable()
        name, keys = ("held_of_all", ()) if key is None else ("held", (key,))
        parameters = (self._topic.id, self.id, *keys, after, limit)
        return [_due(row) for row in self._reader.execute(SQL[name], parameters)]

    async def waiting_keys(self) -> Sequence[str]:
        await self.rows_durable()
        if not self._ever_rows:
            return []
        return [key for (key,) in self._reader.execute(SQL["waiting_keys"], (self.id,))]

    async def regroup(self, ordering: str) -> None:
        await self.rows_durable()
        if not self._ever_rows:
            return
        self._group.open.statements += [(name, (self.id,)) for name in _REGROUP[ordering]]
        self._group.ring()
        await self._group.durable()

    def commit(self, changes: Changes, *, soon: bool = False) -> Awaitable[None]:
        self._require_owned()
        self.changes += 1
        outstanding, rows = self._outstanding, self._rows
        self._ever_rows |= bool(changes.put)
        if self._covered:
            settled = (*changes.done, *(row.seq for row in changes.put))
            self._covered.difference_update(seq for seq in settled if seq in outstanding)
        for row in changes.put:
            rows[row.seq] = row
            outstanding.pop(row.seq, None)
        for seq in changes.done:
            outstanding.pop(seq, None)
        for seq in changes.drop:
            rows[seq] = None
        if changes.drop and self._failed:
            self._failed = [each for each in self._failed if rows.get(each.seq, each) is not None]
        self._failed += changes.failed
        self._group.open.writers[self] = None
        if soon:
            self._group.ring()
        else:
            self._group.ring_lazily()
        return self._group.durable() if soon else _LAZILY

    # -- within the store ------------------------------------------------------------------------

    def ring(self) -> None:
        """Hear that the topic has grown."""
        self.bell.set()

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the position, and the rows that have changed."""
        if self.lost:
            return
        rows, self._rows = self._rows, {}
        failed, self._failed = self._failed, []
        self._writing = bool(rows or failed)
        if rows:
            self._write_rows(connection, rows)
        if failed:
            connection.executemany(
                SQL["put_attempt"],
                [
                    (self.id, f.seq, f.attempt, f.at, f.status, f.error, f.duration_ms, f.answer)
                    for f in failed
                ],
            )
        position = self.position()
        if position != self._written_position:
            connection.execute(SQL["update_position"], (position, self.id))
            self._written_position = position

    def _write_rows(
        self, connection: sqlite3.Connection, rows: dict[int, ExceptionRow | None]
    ) -> None:
        put = [
            (self.id, seq, row.key, row.state, row.attempts, row.due_at, row.reason)
            for seq, row in rows.items()
            if row is not None
        ]
        dropped = [(self.id, seq) for seq, row in rows.items() if row is None]
        if put:
            connection.executemany(SQL["put_exception"], put)
        if dropped:
            connection.executemany(SQL["drop_exception"], dropped)
            connection.executemany(SQL["drop_attempts"], dropped)

    def written(self) -> None:
        """Hear that what was written is durable."""
        self._writing = False

    def position(self) -> int:
        """Return the seq at or below which everything is done or has a row."""
        return next(iter(self._outstanding), self._fetched + 1) - 1

    def unsettled(self) -> int:
        """Count the messages above the position that are neither done nor have a row."""
        # A start may be beyond the end of the log.
        above = max(self._topic.durable_seq - self._fetched, 0)
        return len(self._outstanding) + above - len(self._covered)

    def lose(self) -> None:
        """Give up the shard: the subscription is gone."""
        self.lost = True
        self._topic.followers.remove(self)
        self.bell.set()

    def _require_owned(self) -> None:
        if self.lost:
            raise LeaseLost(f"{self.topic}/{self.subscription}")

    async def rows_durable(self) -> None:
        """Wait for rows that are on their way to the file, which is what readers see."""
        self._require_owned()
        while self._rows or self._writing:
            self._group.ring()
            await self._group.durable()
            self._require_owned()


class _Lazily:
    """An awaitable for a commit that nobody needs to wait for."""

    def __await__(self):  # type: ignore[no-untyped-def]
        return iter(())


_LAZILY = _Lazily()


def _due(row: Sequence[object]) -> Due:
    return Due(ExceptionRow(*row[:6]), Message(*row[6:]))  # type: ignore[arg-type]
