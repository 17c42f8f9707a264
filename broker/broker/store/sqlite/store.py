"""The store on one SQLite file."""

import asyncio
import contextlib
import itertools
import json
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from broker.model import Appended, FailedAttempt, Message, NewMessage, RowState, Scheduled, Turn
from broker.store.port import (
    Conflict,
    Document,
    Due,
    LogEntry,
    ShardStats,
    Standing,
    StoreMeasures,
    TopicStats,
    Waiter,
)
from broker.store.sqlite.block import stored_at
from broker.store.sqlite.block_reader import BlockReader
from broker.store.sqlite.checkpoint import Checkpointer
from broker.store.sqlite.commit_place import CommitPlace
from broker.store.sqlite.connection import (
    PAGE_BYTES,
    FolderLock,
    open_reader,
    open_writer,
    usable,
)
from broker.store.sqlite.counting import Counting
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.journal import Journal
from broker.store.sqlite.log import Log, TopicLog
from broker.store.sqlite.queries import SQL
from broker.store.sqlite.reading import SCAN_ROWS, Reading
from broker.store.sqlite.recent_ids import RecentIds
from broker.store.sqlite.retention import BATCH_ROWS, Purge, Trim, entries_of
from broker.store.sqlite.schedule import Schedule
from broker.store.sqlite.scrub import scrub
from broker.store.sqlite.shard import ATTEMPTS_KEPT, Place, SqliteShard

log = logging.getLogger(__name__)

FIND_SOURCES = 1_000


class SqliteStore:
    """Implements broker.store.port.Store."""

    def __init__(
        self,
        path: str,
        *,
        now: Callable[[], float] = time.time,
        failed: Callable[[str], None] = lambda _: None,
        commit_place: Callable[[], CommitPlace] = CommitPlace,
        journal: Journal | None = None,
    ) -> None:
        self._path = Path(path).absolute()
        self._now = now
        self._on_failure = failed
        self._commit_place = commit_place
        self._journal = journal
        self._lock = FolderLock(self._path)
        self._topics: dict[str, TopicLog] = {}
        self._shards: dict[tuple[str, str], SqliteShard] = {}
        self._attempted: dict[SqliteShard, int] = {}
        self._documents: dict[str, tuple[Document, int]] = {}
        self._claimable: asyncio.Queue[SqliteShard] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(1, "read")
        self._connections: contextlib.AsyncExitStack | None = None
        self._follower: str | None = None

    # -- life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        async with contextlib.AsyncExitStack() as undo:
            undo.enter_context(usable(self._path))
            self._lock.acquire()
            undo.callback(self._lock.release)
            if self._journal is not None:
                journal = self._journal
                undo.push_async_callback(lambda: journal.let_go(self._follower))
                await self._journal.take_over(self._path, self._lose)
            self._writer = undo.enter_context(contextlib.closing(open_writer(self._path)))
            self._reader = undo.enter_context(contextlib.closing(open_reader(self._path)))
            self._scanner = undo.enter_context(contextlib.closing(open_reader(self._path)))
            self._group = GroupCommit(
                self._writer, self._on_failure, self._commit_place(), self._journal
            )
            await self._group.write_first(("finish_seeks", "seeks_finished", "resume_leased"))
            ids = RecentIds(self._reader)
            self._schedule = Schedule(self._group, self._reader, self._now, ids)
            self._log = Log(self._group, self._reader, self._now, ids, self._schedule)
            counter = undo.enter_context(contextlib.closing(open_reader(self._path)))
            self._counting = Counting(counter, self._threads, self._group)
            self._reading = Reading(self._log, self._scanner, self._threads)
            self._trim = Trim(self._group, self._query, self._oldest)
            self._purge = Purge(
                self._group,
                self._query,
                self._oldest,
                self._topics,
                self._shards,
                self._trim,
                self._attempted,
                self._now,
            )
            self._load()
            self._connections = undo.pop_all()
        group = self._group
        self._checkpointer = Checkpointer(self._path, lambda: group.commits, group.writing)
        self._checkpointer.start()
        self._committing = asyncio.create_task(self._group.run(), name="group commit")
        self._tasks = [
            asyncio.create_task(self._purge.run(), name="purge"),
            asyncio.create_task(self._schedule.run(self._log.join), name="schedule"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _lose(self, reason: str) -> None:
        """Hear that the journal is another broker's."""
        self._group.lose(reason)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the worker, which recovers, rather than leave undone what a task would do."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._group.failure is None:
            log.critical(
                "The task %s failed.",
                task.get_name(),
                exc_info=error,
                extra={"action": "task_failed"},
            )
            self._on_failure(f"the task {task.get_name()} failed")

    def _load(self) -> None:
        (self.log_id,) = self._reader.execute(SQL["log_id"]).fetchone()
        self._last_topic, self._last_subscription = self._reader.execute(SQL["last_ids"]).fetchone()
        for key, body, revision in self._reader.execute(SQL["list_documents"]):
            self._documents[key] = (msgspec.json.decode(body), revision)
        topics = {row[0]: TopicLog(*row) for row in self._reader.execute(SQL["list_topics"])}
        for topic in topics.values():
            self._topics[topic.name] = topic
            self._schedule.follow(topic)
            self._follow_document(topic)
        with_rows = {id_ for (id_,) in self._reader.execute(SQL["subscriptions_with_rows"])}
        for id_, topic_id, name, *numbers in self._reader.execute(SQL["list_subscriptions"]):
            place = Place(*numbers)
            covered = (
                [seq for (seq,) in self._reader.execute(SQL["rows_above"], (id_, place.position))]
                if id_ in with_rows
                else []
            )
            self._add_shard(id_, name, topics[topic_id], place, covered, id_ in with_rows)

    async def close(self, follower: str | None = None) -> None:
        if self._connections is None:
            return
        self._follower = follower
        async with self._connections:  # whatever fails, the folder is let go
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for shard in self._shards.values():
                shard.write_with_next()
            self._group.stop()
            await self._committing
            self._checkpointer.stop()
            self._threads.shutdown()
        self._connections = None

    async def standing_by(self) -> None:
        await (asyncio.Event() if self._journal is None else self._journal.standing_by).wait()

    def owner(self) -> str | None:
        return None if self._journal is None else self._journal.owner()

    def rpc_owner(self) -> str | None:
        return None if self._journal is None else self._journal.rpc_owner()

    def follows(self) -> bool:
        return self._journal is not None and self._journal.caught_up

    def may_send_until(self) -> float:
        return math.inf if self._journal is None else self._journal.may_send_until()

    async def scrub(self) -> None:
        await asyncio.to_thread(scrub, self._path, self._group.writing)
        if self._journal is not None:
            await self._journal.condense()

    def lock_descriptor(self) -> int:
        """Return the descriptor that a child inherits to keep the folder locked while it lives."""
        return self._lock.descriptor

    def writable(self) -> str | None:
        return self._group.failure

    def free_bytes(self) -> int:
        # What is in the write-ahead log so far will need its place in the file as well. The size
        # is read first: what a checkpoint moves meanwhile counts twice rather than not at all.
        size = self._path.stat().st_size
        (pages,) = self._reader.execute("PRAGMA page_count").fetchone()
        room = os.statvfs(self._path.parent)
        growing = max(0, pages * PAGE_BYTES - size)
        return int(max(0, room.f_bavail * room.f_frsize - growing))

    def reusable_bytes(self) -> int:
        (pages,) = self._reader.execute("PRAGMA freelist_count").fetchone()
        return int(pages * PAGE_BYTES)

    # -- log ---------------------------------------------------------------------------------------

    async def append(self, topic: str, messages: Sequence[NewMessage]) -> Sequence[Appended]:
        durable = asyncio.get_running_loop().create_future()
        appended = self.append_soon(topic, messages, durable)
        await durable
        return appended

    def append_soon(
        self, topic: str, messages: Sequence[NewMessage], waiter: Waiter
    ) -> Sequence[Appended]:
        return self._log.append_soon(self._topics[topic], messages, waiter)

    async def read(
        self,
        topic: str,
        after: int,
        limit: int,
        key: str | None = None,
        type_: str | None = None,
        id_: str | None = None,
    ) -> tuple[Sequence[Message], int | None]:
        return await self._reading.read(self._topics[topic], after, limit, key, type_, id_=id_)

    async def watch(
        self, topic: str, after: int | None, key: str | None = None, type_: str | None = None
    ) -> AsyncGenerator[Sequence[Message], None]:
        held = self._topics[topic]
        watching = self._reading.watch(
            held, after, key, type_, lambda: self._topics.get(topic) is held
        )
        async with contextlib.aclosing(watching):
            async for page in watching:
                yield page

    async def locate(self, topic: str, at: float) -> int:
        held = self._topics[topic]
        low, high = held.first_seq, held.last_seq + 1
        while low < high:
            middle = (low + high) // 2
            rows = await self._query("block_at", (held.id, middle))
            if rows and stored_at(rows[0], middle) < at:
                low = middle + 1
            else:
                high = middle
        return low

    async def sequences_of(self, topic: str, id: str) -> Sequence[int]:
        held = self._topics[topic]
        wanted = (held.id, id, held.first_seq, FIND_SOURCES)
        return [seq for (seq,) in await self._query("sequences_of_id", wanted)]

    def topic_stats(self, topic: str) -> TopicStats:
        held = self._topics[topic]
        return TopicStats(
            message_count=held.message_count,
            bytes=held.bytes,
            first_sequence=held.first_seq,
            last_sequence=held.last_seq,
            scheduled_count=held.scheduled_count,
            scheduled_bytes=held.scheduled_bytes,
        )

    async def oldest(self, topic: str, limit: int) -> Sequence[LogEntry]:
        held = self._topics.get(topic)
        return () if held is None else await self._trim.oldest(held, limit)

    async def trim(self, topic: str, before: int) -> int:
        held = self._topics.get(topic)
        if held is None:
            return before
        return await self._trim.trim(held, lambda: self._shards_of(topic), before)

    def _shards_of(self, topic: str) -> list[SqliteShard]:
        return [shard for (owner, _), shard in self._shards.items() if owner == topic]

    async def _query(self, name: str, parameters: tuple[Any, ...]) -> list[Any]:
        """Read in the thread, so that the event loop does not wait for the disk."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: self._scanner.execute(SQL[name], parameters).fetchall()
        )

    async def _oldest(self, topic: int, first: int, limit: int) -> list[LogEntry]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._scan_oldest, topic, first, limit)

    def _scan_oldest(self, topic: int, first: int, limit: int) -> list[LogEntry]:
        parameters = (topic, first, limit)
        with contextlib.closing(self._scanner.execute(SQL["oldest"], parameters)) as rows:
            return entries_of(rows, first, limit)

    # -- messages that wait for their time ---------------------------------------------------------

    async def scheduled(
        self, topic: str, after: Turn, limit: int
    ) -> tuple[Sequence[Scheduled], Turn | None]:
        parameters = (self._topics[topic].id, *after, SCAN_ROWS)
        await self._schedule.settled()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._scan_scheduled, parameters, limit)

    def _scan_scheduled(
        self, parameters: tuple[int, float, int, int], limit: int
    ) -> tuple[Sequence[Scheduled], Turn | None]:
        """Read a page, looking at no more than SCAN_ROWS messages of all topics."""
        found: list[Scheduled] = []
        rows = self._scanner.execute(SQL["list_scheduled"], parameters)
        looked, at = 0, (0.0, 0)
        for deliver_at, number, attributes, data in rows:
            looked += 1
            if attributes is not None:
                if len(found) == limit:
                    return found, at
                found.append(Scheduled(deliver_at, number, attributes, data))
            at = (deliver_at, number)
        return found, at if looked == SCAN_ROWS else None

    async def find_scheduled(self, topic: str, source: str, id: str) -> Scheduled | None:
        return await self._schedule.find(self._topics[topic], source, id)

    async def cancel_scheduled(self, topic: str, source: str, id: str) -> bool:
        return await self._schedule.cancel(self._topics[topic], source, id)

    # -- documents ---------------------------------------------------------------------------------

    def documents(self, prefix: str) -> Mapping[str, tuple[Document, int]]:
        return {key: found for key, found in self._documents.items() if key.startswith(prefix)}

    async def put_document(self, key: str, document: Document, expect: int | None) -> int:
        _, revision = self._documents.get(key, ({}, 0))
        if expect is not None and expect != revision:
            raise Conflict(key)
        self._set_document(key, document, revision + 1)
        await self._commit()
        return revision + 1

    def _set_document(self, key: str, document: Document, revision: int) -> None:
        self._documents[key] = (document, revision)
        body = msgspec.json.encode(document).decode()
        self._group.open.statements.append(("put_document", (key, body, revision)))
        kind, _, name = key.partition("/")
        if kind == "topic" and name in self._topics:
            self._follow_document(self._topics[name])
        if kind == "subscription":
            topic, _, subscription = name.partition("/")
            if (shard := self._shards.get((topic, subscription))) is not None:
                shard.write_with_next()

    def _remove_document(self, key: str) -> None:
        self._documents.pop(key, None)
        self._group.open.statements.append(("delete_document", (key,)))

    def _follow_document(self, topic: TopicLog) -> None:
        document, _ = self._documents.get(f"topic/{topic.name}", ({}, 0))
        topic.window_s = document.get("dedup_window_s", topic.window_s)

    async def _commit(self) -> None:
        self._group.ring()
        await self._group.durable()

    # -- topics and subscriptions ------------------------------------------------------------------

    async def create_topic(self, topic: str, document: Document) -> None:
        if topic in self._topics:
            raise Conflict(topic)
        self._last_topic += 1
        created = self._topics[topic] = TopicLog(self._last_topic, topic)
        self._schedule.follow(created)
        self._group.open.statements.append(("insert_topic", (self._last_topic, topic)))
        self._set_document(f"topic/{topic}", document, 1)
        await self._commit()

    async def drop_topic(self, topic: str) -> None:
        dropped = self._topics.pop(topic, None)
        if dropped is None:
            return
        for shard in self._shards_of(topic):
            self._forget(shard)
        self._remove_document(f"topic/{topic}")
        self._log.drop_tail(dropped)
        for follower in dropped.followers:
            follower.ring()
        self._schedule.drop(dropped)
        self._group.open.statements += [
            ("delete_topic_subscriptions", (dropped.id,)),
            ("unname_topic", (dropped.id,)),
        ]
        await self._commit()

    async def create_subscription(
        self, topic: str, subscription: str, document: Document, start: int
    ) -> None:
        if (topic, subscription) in self._shards:
            raise Conflict(subscription)
        owner = self._topics[topic]
        self._last_subscription += 1
        id_, position = self._last_subscription, max(start, owner.first_seq) - 1
        self._group.open.statements.append(
            ("insert_subscription", (id_, owner.id, subscription, position))
        )
        self._set_document(f"subscription/{topic}/{subscription}", document, 1)
        self._add_shard(id_, subscription, owner, Place(position), [], False)
        await self._commit()

    def _add_shard(
        self,
        id_: int,
        name: str,
        topic: TopicLog,
        place: Place,
        covered: Sequence[int],
        with_rows: bool,
    ) -> None:
        shard = SqliteShard(
            id_,
            name,
            topic,
            place,
            covered,
            with_rows,
            self._log,
            self._group,
            self._reader,
            self._query,
            self._attempted,
        )
        self._shards[(topic.name, name)] = shard
        self._claimable.put_nowait(shard)

    async def drop_subscription(self, topic: str, subscription: str) -> None:
        shard = self._shards.get((topic, subscription))
        if shard is None:
            return
        self._forget(shard)
        self._group.open.statements.append(("delete_subscription", (shard.id,)))
        await self._commit()

    def _forget(self, shard: SqliteShard) -> None:
        """Let go of a subscription; its rows are removed a few at a time."""
        del self._shards[(shard.topic, shard.subscription)]
        shard.lose()
        self._remove_document(f"subscription/{shard.topic}/{shard.subscription}")
        self._purge.dropped_subscription(shard.id)

    async def claim(self) -> AsyncIterator[SqliteShard]:
        while True:
            shard = await self._claimable.get()
            if not shard.lost:
                yield shard

    async def rows(
        self, topic: str, subscription: str, states: Sequence[RowState], after: int, limit: int
    ) -> Sequence[Due]:
        shard = self._shards[(topic, subscription)]
        await shard.rows_durable()
        loop = asyncio.get_running_loop()
        found = [
            await loop.run_in_executor(self._threads, self._rows, shard, state, after, limit)
            for state in states
        ]
        return sorted(itertools.chain(*found), key=lambda due: due.row.seq)[:limit]

    def _rows(self, shard: SqliteShard, state: RowState, after: int, limit: int) -> list[Due]:
        rows = self._scanner.execute(SQL["rows"], (shard.id, state, after, limit))
        return list(BlockReader(self._scanner, shard.topic_id).dues_of(rows))

    async def attempts(self, topic: str, subscription: str, seq: int) -> Sequence[FailedAttempt]:
        shard = self._shards[(topic, subscription)]
        await shard.rows_durable()
        parameters = (shard.id, seq, ATTEMPTS_KEPT)
        return [
            FailedAttempt(*row) for row in self._reader.execute(SQL["list_attempts"], parameters)
        ]

    async def first_owed(self, topic: str, subscription: str) -> int | None:
        shard = self._shards.get((topic, subscription))
        if shard is None:
            return None
        if not (shard.has_rows or shard.unsettled()):
            return None
        held = self._topics[topic]  # it may be dropped while this waits
        ((first,),) = await self._query("first_owed_to", (shard.id,))
        return None if first is None or first > held.durable_seq else int(first)

    async def drop_dead(self, topic: str, subscription: str, until: float) -> int:
        shard = self._shards.get((topic, subscription))
        if shard is None or not shard.has_rows:
            return 0
        parameters = (shard.id, until, shard.position(), BATCH_ROWS)
        seqs = [seq for (seq,) in await self._query("dead_since", parameters)]
        if seqs:
            shard.write_with_next()  # where the position is below, they would come again
            self._group.open.statements.append(("drop_dead", (shard.id, until, json.dumps(seqs))))
            await self._commit()
        return len(seqs)

    async def shard_stats(self, topic: str, subscription: str) -> ShardStats:
        return await self._counting.stats(self._shards[(topic, subscription)])

    async def standings(self) -> Mapping[tuple[str, str], Standing]:
        shards = dict(self._shards)
        return dict(zip(shards, await self._counting.standings(shards.values()), strict=True))

    def measures(self) -> StoreMeasures:
        wal = self._path.with_name(self._path.name + "-wal")
        return StoreMeasures(
            self._group.times,
            wal.stat().st_size if wal.exists() else 0,
            self._path.stat().st_size,
            self.reusable_bytes(),
            self.free_bytes(),
        )
