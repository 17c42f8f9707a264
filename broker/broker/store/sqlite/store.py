"""The store on one SQLite file."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from broker.model import Appended, Message, NewMessage
from broker.store.port import Conflict, Document, ShardStats, TopicStats, Unavailable
from broker.store.sqlite.checkpoint import Checkpointer
from broker.store.sqlite.connection import FolderLock, open_reader, open_writer, usable
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.log import Log, TopicLog
from broker.store.sqlite.queries import SQL
from broker.store.sqlite.shard import SqliteShard

PURGE_ROWS = 500
PURGE_PAUSE_S = 0.02
SCAN_ROWS = 10_000
COUNT_TRIES = 3


class SqliteStore:
    """Implements broker.store.port.Store."""

    def __init__(
        self,
        path: str,
        *,
        now: Callable[[], float] = time.time,
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._path = Path(path).absolute()
        self._now = now
        self._on_failure = failed
        self._lock = FolderLock(self._path)
        self._topics: dict[str, TopicLog] = {}
        self._shards: dict[tuple[str, str], SqliteShard] = {}
        self._documents: dict[str, tuple[Document, int]] = {}
        self._claimable: asyncio.Queue[SqliteShard] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(1, "read")
        self._connections: contextlib.ExitStack | None = None

    # -- life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        with contextlib.ExitStack() as undo, usable(self._path):
            self._lock.acquire()
            undo.callback(self._lock.release)
            self._writer = undo.enter_context(contextlib.closing(open_writer(self._path)))
            self._reader = undo.enter_context(contextlib.closing(open_reader(self._path)))
            self._scanner = undo.enter_context(contextlib.closing(open_reader(self._path)))
            self._group = GroupCommit(self._writer, self._on_failure)
            self._log = Log(self._group, self._reader, self._now)
            self._load()
            self._connections = undo.pop_all()
        group = self._group
        self._checkpointer = Checkpointer(self._path, lambda: group.commits, group.writing)
        self._checkpointer.start()
        self._committing = asyncio.create_task(self._group.run(), name="group commit")
        self._purging = asyncio.create_task(self._purge(), name="purge of dropped topics")

    def _load(self) -> None:
        self._writer.execute(SQL["resume_leased"])
        (self.log_id,) = self._reader.execute(SQL["log_id"]).fetchone()
        self._last_topic, self._last_subscription = self._reader.execute(SQL["last_ids"]).fetchone()
        for key, body, revision in self._reader.execute(SQL["list_documents"]):
            self._documents[key] = (msgspec.json.decode(body), revision)
        topics = {row[0]: TopicLog(*row) for row in self._reader.execute(SQL["list_topics"])}
        for topic in topics.values():
            self._topics[topic.name] = topic
            self._follow_document(topic)
        with_rows = {id_ for (id_,) in self._reader.execute(SQL["subscriptions_with_rows"])}
        for id_, topic_id, name, position in self._reader.execute(SQL["list_subscriptions"]):
            covered = (
                [seq for (seq,) in self._reader.execute(SQL["rows_above"], (id_, position))]
                if id_ in with_rows
                else []
            )
            self._add_shard(id_, name, topics[topic_id], position, covered, id_ in with_rows)

    async def close(self) -> None:
        if self._connections is None:
            return
        with self._connections:  # whatever fails, the folder is let go
            self._purging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._purging
            self._group.stop()
            await self._committing
            self._checkpointer.stop()
            self._threads.shutdown()
        self._connections = None

    def lock_descriptor(self) -> int:
        """Return the descriptor that a child inherits to keep the folder locked while it lives."""
        return self._lock.descriptor

    def writable(self) -> str | None:
        return self._group.failure

    def free_bytes(self) -> int:
        room = os.statvfs(self._path.parent)
        return room.f_bavail * room.f_frsize

    # -- log ---------------------------------------------------------------------------------------

    async def append(self, topic: str, messages: Sequence[NewMessage]) -> Sequence[Appended]:
        return await self._log.append(self._topics[topic], messages)

    async def read(
        self, topic: str, after: int, limit: int, key: str | None = None, type_: str | None = None
    ) -> tuple[Sequence[Message], int | None]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._scan, self._topics[topic].id, after, limit, key, type_
        )

    def _scan(
        self, topic: int, after: int, limit: int, key: str | None, type_: str | None
    ) -> tuple[Sequence[Message], int | None]:
        """Read in log order, looking at no more than SCAN_ROWS messages for a rare key or type."""
        filtered = key is not None or type_ is not None
        look_at = SCAN_ROWS if filtered else limit + 1
        found: list[Message] = []
        looked = 0
        for row in self._scanner.execute(SQL["read_messages"], (topic, after, look_at)):
            message = Message(*row)
            looked += 1
            if (key is None or message.key == key) and (
                type_ is None or _type_of(message) == type_
            ):
                if len(found) == limit:
                    return found, found[-1].seq
                found.append(message)
            after = message.seq
        return found, after if filtered and looked == look_at else None

    async def locate(self, topic: str, at: float) -> int:
        low, high = self.topic_stats(topic).first_sequence, self._topics[topic].last_seq + 1
        while low < high:
            middle = (low + high) // 2
            row = self._reader.execute(
                SQL["stored_at"], (self._topics[topic].id, middle)
            ).fetchone()
            if row is not None and row[0] < at:
                low = middle + 1
            else:
                high = middle
        return low

    def topic_stats(self, topic: str) -> TopicStats:
        held = self._topics[topic]
        (first,) = self._reader.execute(SQL["first_seq"], (held.id,)).fetchone()
        return TopicStats(
            message_count=held.message_count,
            bytes=held.bytes,
            first_sequence=first if first is not None else held.last_seq + 1,
            last_sequence=held.last_seq,
        )

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
        self._topics[topic] = TopicLog(self._last_topic, topic)
        self._group.open.statements.append(("insert_topic", (self._last_topic, topic)))
        self._set_document(f"topic/{topic}", document, 1)
        await self._commit()

    async def drop_topic(self, topic: str) -> None:
        dropped = self._topics.pop(topic, None)
        if dropped is None:
            return
        for name in [name for owner, name in self._shards if owner == topic]:
            self._shards.pop((topic, name)).lose()
            self._remove_document(f"subscription/{topic}/{name}")
        self._remove_document(f"topic/{topic}")
        self._log.drop_tail(dropped)
        self._group.open.statements += [
            ("delete_topic_subscription_attempts", (dropped.id,)),
            ("delete_topic_exceptions", (dropped.id,)),
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
        id_, position = self._last_subscription, start - 1
        self._group.open.statements.append(
            ("insert_subscription", (id_, owner.id, subscription, position))
        )
        self._set_document(f"subscription/{topic}/{subscription}", document, 1)
        self._add_shard(id_, subscription, owner, position, [], False)
        await self._commit()

    def _add_shard(
        self,
        id_: int,
        name: str,
        topic: TopicLog,
        position: int,
        covered: Sequence[int],
        with_rows: bool,
    ) -> None:
        shard = SqliteShard(
            id_,
            name,
            topic,
            position,
            covered,
            with_rows,
            self._log,
            self._group,
            self._reader,
        )
        self._shards[(topic.name, name)] = shard
        self._claimable.put_nowait(shard)

    async def drop_subscription(self, topic: str, subscription: str) -> None:
        shard = self._shards.pop((topic, subscription), None)
        if shard is None:
            return
        shard.lose()
        self._remove_document(f"subscription/{topic}/{subscription}")
        self._group.open.statements += [
            (name, (shard.id,))
            for name in ("delete_subscription", "delete_exceptions", "delete_attempts")
        ]
        await self._commit()

    async def claim(self) -> AsyncIterator[SqliteShard]:
        while True:
            shard = await self._claimable.get()
            if not shard.lost:
                yield shard

    async def shard_stats(self, topic: str, subscription: str) -> ShardStats:
        shard = self._shards[(topic, subscription)]
        counted = await self._count_rows_of(shard)
        rows = {state: count for state, count, _, _ in counted}
        owed = [(count, first) for state, count, first, _ in counted if state != "dead"]
        oldest = min([shard.position() + 1, *(first for _, first in owed)])
        found = self._reader.execute(SQL["stored_at"], (self._topics[topic].id, oldest)).fetchone()
        backlog = shard.unsettled() + sum(count for count, _ in owed)
        return ShardStats(
            position=shard.position(),
            backlog=backlog,
            rows=rows,
            blocked_keys=next((keys for state, _, _, keys in counted if state == "held"), 0),
            oldest_unsettled_at=found[0] if found is not None and backlog else None,
        )

    async def _count_rows_of(self, shard: SqliteShard) -> list[tuple[str, int, int, int]]:
        """Count in a thread, again where rows changed meanwhile: none may be counted in neither
        place, the shard's memory or the file."""
        loop = asyncio.get_running_loop()
        for _ in range(COUNT_TRIES):
            await shard.rows_durable()
            before = shard.changes
            counted = await loop.run_in_executor(self._threads, self._count_rows, shard.id)
            if shard.changes == before:
                return counted
        await shard.rows_durable()
        return self._count_rows(shard.id)

    def _count_rows(self, subscription: int) -> list[tuple[str, int, int, int]]:
        return self._scanner.execute(SQL["count_rows"], (subscription,)).fetchall()

    # -- what dropped topics leave behind ----------------------------------------------------------

    async def _purge(self) -> None:
        """Remove dropped topics' messages a few at a time, so that no publish waits long."""
        while True:
            unnamed = self._reader.execute(SQL["list_unnamed_topics"]).fetchone()
            if unnamed is None:
                await asyncio.sleep(1.0)
                continue
            (topic,) = unnamed
            (holds,) = self._reader.execute(SQL["holds_anything"], (topic,)).fetchone()
            names = ("purge_messages", "purge_publish_keys") if holds else ("delete_topic",)
            parameters = (topic, PURGE_ROWS) if holds else (topic,)
            self._group.open.statements += [(name, parameters) for name in names]
            try:
                await self._commit()
            except Unavailable:
                return  # the next life goes on with it
            await asyncio.sleep(PURGE_PAUSE_S)


def _type_of(message: Message) -> str | None:
    return msgspec.json.decode(message.attributes, type=_Typed).type


class _Typed(msgspec.Struct):
    type: str
