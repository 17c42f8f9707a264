"""A subscription's position and its exception rows."""

import asyncio
import heapq
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from broker.model import ExceptionRow, FailedAttempt, Message, RowState, size_of, sizes_of
from broker.store.port import PAGE_BYTES, Changes, Due, Lease, LeaseLost, Wants
from broker.store.sqlite.batches import Batches
from broker.store.sqlite.block_reader import BlockReader
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.journal import Executes
from broker.store.sqlite.log import Log, TopicLog
from broker.store.sqlite.queries import SQL, Query

WINDOW = 8192
PASSED_S = 1.0  # until a move over what is not wanted is written, if nothing else is before
MOST_PASSED_AT_ONCE = 256
PAGES_PASSED_AT_ONCE = 8
JUDGING_S = 0.005  # until others have a turn
ATTEMPTS_KEPT = 20
ATTEMPTS_TRIMMED_EVERY = 10


@dataclass(frozen=True, slots=True)
class Place:
    """A subscription's row: how far it is, and what its seeks and its endpoint have left."""

    position: int
    generation: int = 0
    replay_until: int = 0
    hold_until: float = 0.0


class SqliteShard:
    """The one shard of a subscription. It adds what it has to write to the open group.

    In `attempted` it notes the lowest seq at which an attempt has failed since the purge looked,
    once that is in the file: from there on the purge looks next for what nobody can ask for.
    """

    def __init__(
        self,
        id_: int,
        subscription: str,
        topic: TopicLog,
        place: Place,
        covered: Iterable[int],
        with_rows: bool,
        log: Log,
        group: GroupCommit,
        reader: sqlite3.Connection,
        query: Query,
        attempted: dict["SqliteShard", int],
    ) -> None:
        self.id = id_
        self.topic = topic.name
        self.topic_id = topic.id
        self.subscription = subscription
        self.bell = asyncio.Event()
        self.has_rows = with_rows
        self._topic = topic
        self._log = log
        self._group = group
        self._reader = reader
        self._query = query
        self._attempted = attempted
        self._batches = Batches(id_, group, reader, self._require_owned)
        self.generation = place.generation
        self.replay_until = place.replay_until
        self.hold_until = self._written_hold = place.hold_until
        self._written_position = place.position
        self.fetched = place.position
        self._outstanding: dict[int, int] = {}  # the size of each
        self._outstanding_bytes = 0
        self._covered = set(covered)
        self.covered_until = max(self._covered, default=0)
        self._rows: dict[int, ExceptionRow | None] = {}
        self._failed: list[FailedAttempt] = []
        self._failed_in_writing: list[FailedAttempt] = []
        self._arrived: set[int] = set()  # what was outstanding, of the rows not written yet
        self._given_up = 0  # how many were given up that had no row, likewise
        self._writing = False
        self.seeking = False
        self.lost = False
        self._wants: Wants | None = None
        self._reach = 1
        self._passed_timer: asyncio.TimerHandle | None = None
        topic.followers.append(self)

    # -- the port --------------------------------------------------------------------------------

    def position(self) -> int:
        return next(iter(self._outstanding), self.fetched + 1) - 1

    def owes(self, seq: int) -> bool:
        return seq > self.fetched or seq in self._outstanding

    def room(self) -> int:
        return WINDOW - len(self._outstanding)

    def outstanding_bytes(self) -> int:
        return self._outstanding_bytes

    def select(self, wants: Wants | None) -> None:
        self._wants = wants

    def behind(self) -> bool:
        return self.fetched < self._topic.durable_seq

    async def fetch(self, limit: int) -> Sequence[Message]:
        self._require_owned()
        if self._wants is not None:
            return await self._fetch_wanted(limit, self._wants)
        while page := self._log.page(self._topic, self.fetched, min(limit, self.room())):
            messages, sizes = page.beginning(PAGE_BYTES)
            self.fetched = messages[-1].seq
            if self._covered:
                messages, covered = self._part(messages)
                self._covered -= covered
                sizes = sizes_of(messages)
            if messages:
                self._hand_out(messages, sizes)
                return messages
        return ()

    def _hand_out(self, page: Sequence[Message], sizes: Sequence[int]) -> None:
        self._outstanding.update(zip([message.seq for message in page], sizes, strict=True))
        self._outstanding_bytes += sum(sizes)

    async def _fetch_wanted(self, limit: int, wants: Wants) -> Sequence[Message]:
        for _ in range(PAGES_PASSED_AT_ONCE):
            limit = min(limit, self.room())
            # Where hardly anything is wanted, more is read at once than can be handed out.
            most = max(limit, self._reach) if limit > 0 else 0
            page = self._log.page(self._topic, self.fetched, most)
            if page is None:
                return ()
            found, slow = self._judge(page.messages, limit, wants)
            self._reach = 1 if found else min(2 * len(page.messages), MOST_PASSED_AT_ONCE)
            self._hand_out(found, sizes_of(found))
            if slow or not found:
                await asyncio.sleep(0)
                self._require_owned()
            if found:
                return found
        self.bell.set()
        return ()

    def _judge(
        self, page: Sequence[Message], limit: int, wants: Wants
    ) -> tuple[Sequence[Message], bool]:
        """Return what is wanted of a page, as far as it was looked at; and whether that took long.

        The position passes what is not wanted.
        """
        found: list[Message] = []
        until = time.perf_counter() + JUDGING_S
        slow = False
        room = PAGE_BYTES
        before = self.fetched
        for message in page:
            self.fetched = message.seq
            if self._covered and message.seq in self._covered:
                self._covered.discard(message.seq)
            elif wants(message.attributes):
                found.append(message)
                room -= size_of(message)
            slow = time.perf_counter() > until
            if slow or len(found) == limit or room <= 0:
                break
        if self.fetched - before > len(found):
            self._write_position_soon()
        return found, slow

    def _write_position_soon(self) -> None:
        """Have the position written before long, and not with each message that is not wanted."""
        if self._passed_timer is None:
            loop = asyncio.get_running_loop()
            self._passed_timer = loop.call_later(PASSED_S, self._write_position)

    def _write_position(self) -> None:
        self.write_with_next()
        self._group.ring_lazily()

    def write_with_next(self) -> None:
        """Have what has changed written with the open group."""
        if self._passed_timer is not None:
            self._passed_timer.cancel()
            self._passed_timer = None
        if not self.lost:
            self._group.open.writers[self] = None

    def _part(self, page: Sequence[Message]) -> tuple[Sequence[Message], set[int]]:
        """Part what has no row from the seqs of what has one."""
        covered = {message.seq for message in page if message.seq in self._covered}
        return [message for message in page if message.seq not in covered], covered

    async def due(self, now: float, limit: int, skip: frozenset[int]) -> Sequence[Due]:
        await self.rows_durable()
        parameters = (self.id, now, limit + len(skip))
        with closing(self._reader.execute(SQL["due"], parameters)) as rows:
            return _page_of(
                self._blocks().dues_of(row for row in rows if row[0] not in skip), limit
            )

    async def next_due_at(self, skip: frozenset[int]) -> float | None:
        await self.rows_durable()
        if not self.has_rows:
            return None
        rows = self._reader.execute(SQL["next_due_at"], (self.id, len(skip) + 1))
        return next((due_at for seq, due_at in rows if seq not in skip), None)

    async def held(self, key: str, after: int, limit: int) -> Sequence[Due]:
        await self.rows_durable()
        with closing(self._reader.execute(SQL["held"], (self.id, key, after, limit))) as rows:
            return _page_of(self._blocks().dues_of(rows), limit)

    async def row(self, seq: int) -> Due | None:
        await self.rows_durable()
        rows = self._reader.execute(SQL["row"], (self.id, seq)).fetchall()
        return next(self._blocks().dues_of(rows), None)

    async def leased_among(self, seqs: Sequence[int]) -> Mapping[int, Due]:
        await self.rows_durable()
        rows = self._reader.execute(SQL["leased_among"], (self.id, json.dumps(seqs)))
        blocks = BlockReader(self._reader, self._topic.id, without_content=True)
        return {due.row.seq: due for due in blocks.dues_of(rows)}

    async def owed(self, limit: int, skip: frozenset[int]) -> Sequence[Due]:
        await self.rows_durable()
        if not self.has_rows:
            return []
        with ExitStack() as cursors:
            found = []
            for state in ("retry", "leased", "blocked"):
                rows = self._reader.execute(SQL["rows"], (self.id, state, 0, limit + len(skip)))
                found.append(cursors.enter_context(closing(rows)))
            merged = heapq.merge(*found, key=itemgetter(0))
            owed = (row for row in merged if row[0] not in skip)
            return _page_of(self._blocks().dues_of(owed), limit)

    async def waiting_among(self, keys: Sequence[str]) -> Sequence[str]:
        await self.rows_durable()
        rows = self._reader.execute(SQL["waiting_among"], (json.dumps(keys), self.id))
        return [key for (key,) in rows]

    async def leases(self) -> Sequence[Lease]:
        await self.rows_durable()
        return await self._batches.leases() if self.has_rows else []

    async def first_of(self, key: str) -> int | None:
        await self.rows_durable()
        (first,) = self._reader.execute(SQL["first_of"], (self.id, key)).fetchone()
        return first if first is None else int(first)

    async def firsts(self, keys: Sequence[str]) -> Mapping[str, int]:
        await self.rows_durable()
        return dict(self._reader.execute(SQL["firsts"], (json.dumps(keys), self.id)))

    async def waiting_keys(self, limit: int) -> Sequence[str]:
        await self.rows_durable()
        return await self._batches.waiting_keys(limit) if self.has_rows else []

    async def regroup(self, ordering: str) -> None:
        await self.rows_durable()
        if self.has_rows:
            await self._batches.regroup(ordering)

    async def seek(self, position: int) -> None:
        self._require_owned()
        position = max(position, self._topic.first_seq - 1)
        self.replay_until = max(self.replay_until, self.fetched)
        self.generation += 1
        self._written_position = self.fetched = position
        self._outstanding.clear()
        self._outstanding_bytes = 0
        self._covered.clear()
        self._rows.clear()
        self._arrived.clear()
        self._given_up = 0
        self.seeking = True
        try:
            await self._batches.clear(position, self.generation, self.replay_until)
        finally:
            self.seeking = False

    async def replay(
        self, seqs: Sequence[int] | None, busy: Sequence[str] | None, now: float
    ) -> int:
        await self.rows_durable()
        return await self._batches.replay(seqs, None if busy is None else frozenset(busy), now)

    async def give_up(
        self, before: int, since: float, skip: frozenset[int], reason: str, limit: int, now: float
    ) -> tuple[int, Sequence[str]]:
        await self.rows_durable()
        found: list[tuple[int, str | None]] = []
        for state in ("retry", "held", "blocked"):
            parameters = (self.id, state, before, since, limit + len(skip))
            found += await self._query("too_old_rows", parameters)
        rows = sorted(each for each in found if each[0] not in skip)[:limit]
        first = self.fetched + 1
        end = min(before, self._topic.durable_seq + 1, first + limit - len(rows))
        wanted = None if self._wants is None else self._wanted_of(first, end, self._wants)
        if rows:
            seqs = json.dumps([seq for seq, _ in rows])
            self._group.open.statements.append(("give_up_rows", (reason, now, self.id, seqs)))
        if end > first:
            place = (self._topic.id, first, end, json.dumps(wanted))
            self._group.open.statements.append(("give_up_new", (self.id, reason, now, *place)))
            self.fetched = end - 1
            with_rows = self._covered.intersection(range(first, end))
            self._covered -= with_rows
            self._given_up += (end - first if wanted is None else len(wanted)) - len(with_rows)
        count = len(rows) + max(end - first, 0)
        if count:
            self.has_rows = True
            self.write_with_next()
            self._group.ring()
            await self._group.durable()
        keys = json.dumps(list({key for _, key in rows if key is not None}))
        return count, [key for (key,) in self._reader.execute(SQL["free_among"], (keys, self.id))]

    def _wanted_of(self, first: int, end: int, wants: Wants) -> list[int]:
        """Return the seqs of what is wanted among messages that were not fetched yet."""
        wanted: list[int] = []
        while page := self._log.page(self._topic, first - 1, max(end - first, 0)):
            messages = page.messages
            wanted += [message.seq for message in messages if wants(message.attributes)]
            first = messages[-1].seq + 1
        return wanted

    def commit(self, changes: Changes, *, soon: bool = False) -> Awaitable[None]:
        self._require_owned()
        outstanding, rows = self._outstanding, self._rows
        self.has_rows |= bool(changes.put)
        if self._covered:
            settled = (*changes.done, *(row.seq for row in changes.put))
            self._covered.difference_update(seq for seq in settled if seq in outstanding)
        for row in changes.put:
            rows[row.seq] = row
            if (size := outstanding.pop(row.seq, None)) is not None:
                self._outstanding_bytes -= size
                self._arrived.add(row.seq)
        settled_bytes = 0
        for seq in changes.done:
            settled_bytes += outstanding.pop(seq, 0)
        self._outstanding_bytes -= settled_bytes
        for seq in changes.drop:
            rows[seq] = None
        self._failed += changes.failed
        if changes.hold_until is not None:
            self.hold_until = changes.hold_until
        self.write_with_next()
        if soon:
            self._group.ring()
        else:
            self._group.ring_lazily()
        return self._group.durable() if soon else _LAZILY

    # -- within the store ------------------------------------------------------------------------

    def _blocks(self) -> BlockReader:
        return BlockReader(self._reader, self._topic.id)

    def ring(self) -> None:
        """Hear that the topic has grown."""
        self.bell.set()

    def write(self, connection: Executes) -> None:
        """Write the position, and the rows that have changed."""
        if self.lost:
            return
        rows, self._rows = self._rows, {}
        failed, self._failed = self._failed, []
        self._failed_in_writing = failed
        self._writing = bool(rows or failed or self._given_up)
        self._arrived.clear()
        self._given_up = 0
        if rows:
            self._write_rows(connection, rows)
        if failed:
            self._write_attempts(connection, failed)
        if self.hold_until != self._written_hold:
            connection.execute(SQL["update_hold"], (self.hold_until, self.id))
            self._written_hold = self.hold_until
        position = self.position()
        if position != self._written_position:
            connection.execute(SQL["update_position"], (position, self.id))
            self._written_position = position

    def _write_rows(self, connection: Executes, rows: dict[int, ExceptionRow | None]) -> None:
        put = [
            (self.id, seq, r.key, r.state, r.attempts, r.due_at, r.reason, r.replayed, r.since)
            for seq, r in rows.items()
            if r is not None
        ]
        dropped = [(self.id, seq) for seq, row in rows.items() if row is None]
        if put:
            connection.executemany(SQL["put_exception"], put)
        if dropped:
            connection.executemany(SQL["drop_exception"], dropped)

    def _write_attempts(self, connection: Executes, failed: Sequence[FailedAttempt]) -> None:
        connection.executemany(
            SQL["put_attempt"],
            [
                (self.id, f.seq, f.attempt, f.at, f.status, f.error, f.duration_ms, f.answer)
                for f in failed
            ],
        )
        for f in failed:
            if f.attempt % ATTEMPTS_TRIMMED_EVERY == 0:
                connection.execute(SQL["trim_attempts"], (self.id, f.seq, ATTEMPTS_KEPT))

    def written(self) -> None:
        """Hear that what was written is durable."""
        self._writing = False
        failed, self._failed_in_writing = self._failed_in_writing, []
        if failed:
            first = min(attempt.seq for attempt in failed)
            self._attempted[self] = min(first, self._attempted.get(self, first))

    def unsettled(self) -> int:
        """Count the messages above the position that are neither done nor have a row."""
        # A start may be beyond the end of the log.
        above = max(self._topic.durable_seq - self.fetched, 0)
        return len(self._outstanding) + above - len(self._covered)

    def arriving(self) -> Counter[RowState]:
        """Count by state the messages whose first row is written by the next commit."""
        rows = (self._rows.get(seq) for seq in self._arrived)
        states = Counter(row.state for row in rows if row is not None)
        if self._given_up:
            states["dead"] += self._given_up
        return states

    def first_unwritten(self) -> int:
        """Return the lowest seq that may be owed without having a row in the file."""
        return min([self.position() + 1, *self._arrived])

    def lose(self) -> None:
        """Give up the shard: the subscription is gone."""
        self.lost = True
        self.write_with_next()
        self._topic.followers.remove(self)
        self.bell.set()

    def _require_owned(self) -> None:
        if self.lost:
            raise LeaseLost(f"{self.topic}/{self.subscription}")

    async def rows_durable(self) -> None:
        """Wait for rows that are on their way to the file, which is what readers see."""
        self._require_owned()
        while self._rows or self._writing:
            await self._commit_now()

    async def rows_written(self) -> None:
        """Wait for the rows that are on their way now; others may be before this ends."""
        self._require_owned()
        if self._rows or self._given_up or self._writing:
            await self._commit_now()

    async def _commit_now(self) -> None:
        self._group.ring()
        await self._group.durable()
        self._require_owned()


class _Lazily:
    """An awaitable for a commit that nobody needs to wait for."""

    def __await__(self):  # type: ignore[no-untyped-def]
        return iter(())


_LAZILY = _Lazily()


def _page_of(found: Iterable[Due], limit: int) -> list[Due]:
    """Take rows, up to the one that brings the page to PAGE_BYTES."""
    page: list[Due] = []
    room = PAGE_BYTES
    for due in islice(found, limit):
        page.append(due)
        room -= size_of(due.message)
        if room <= 0:
            break
    return page
