"""Messages that wait for their time: kept, found, cancelled, and moved into the log when due."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeAlias

from broker.model import NewMessage, Scheduled, size_of
from broker.store.port import Unavailable
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.journal import Executes
from broker.store.sqlite.log import TopicLog
from broker.store.sqlite.queries import SQL
from broker.store.sqlite.recent_ids import RecentIds

# What one transaction moves: the event loop does nothing else meanwhile.
BATCH_ROWS = 100
BATCH_BYTES = 2 * 1024 * 1024
# The clock that says when a message is due may be set while nobody looks.
LONGEST_WAIT_S = 60.0

Join: TypeAlias = Callable[[TopicLog, NewMessage], None]


class Schedule:
    """Every topic's messages that wait.

    Only what is durable is moved or cancelled. A row that one of these has taken is leaving until
    the group that removes it is on disk, so that the other cannot take it as well.
    """

    def __init__(
        self,
        group: GroupCommit,
        reader: sqlite3.Connection,
        now: Callable[[], float],
        ids: RecentIds,
    ) -> None:
        self._group = group
        self._reader = reader
        self._now = now
        self._ids = ids
        self._topics: dict[int, TopicLog] = {}
        self._bell = asyncio.Event()
        self._added: list[tuple[Any, ...]] = []
        self._writing = False
        self._recounted: dict[int, TopicLog] = {}
        self._leaving: set[int] = set()
        self._removed: list[int] = []
        self._removing: list[int] = []

    def follow(self, topic: TopicLog) -> None:
        """Move the messages of a topic when they are due."""
        self._topics[topic.id] = topic

    def drop(self, topic: TopicLog) -> None:
        """Move no more of a topic's messages."""
        self._topics.pop(topic.id, None)

    # -- waiting -----------------------------------------------------------------------------------

    def add(self, topic: TopicLog, message: NewMessage, now: float) -> None:
        """Have a message wait, from the commit of the open group on."""
        self._added.append(
            (
                topic.id,
                message.deliver_at,
                message.source,
                message.id,
                message.key,
                message.attributes,
                message.data,
                message.fingerprint,
                now,
            )
        )
        self._recount(topic, 1, size_of(message))

    def _recount(self, topic: TopicLog, count: int, size: int) -> None:
        topic.scheduled_count += count
        topic.scheduled_bytes += size
        self._recounted[topic.id] = topic
        self._group.open.writers[self] = None

    def write(self, connection: Executes) -> None:
        """Write what has been added, and the counts of its topics."""
        added, self._added = self._added, []
        recounted, self._recounted = self._recounted, {}
        self._writing = bool(added)
        self._removing, self._removed = self._removed, []
        connection.executemany(SQL["insert_scheduled"], added)
        connection.executemany(
            SQL["update_topic_scheduled"],
            [(t.scheduled_count, t.scheduled_bytes, t.id) for t in recounted.values()],
        )

    def written(self) -> None:
        """Look again for what is due next, now that there may be more."""
        self._leaving.difference_update(self._removing)
        if self._writing:
            self._writing = False
            self._bell.set()

    # -- looking and cancelling --------------------------------------------------------------------

    async def find(self, topic: TopicLog, source: str, id_: str) -> Scheduled | None:
        """Return a message that waits and that nothing else has taken."""
        await self.settled()
        while True:
            row = self._reader.execute(SQL["find_scheduled"], (topic.id, source, id_)).fetchone()
            found = None if row is None else Scheduled(*row)
            if found is None or found.number not in self._leaving:
                return found
            await self._durable()

    async def cancel(self, topic: TopicLog, source: str, id_: str) -> bool:
        """Remove a message that waits, and forget its identity; say whether there was one."""
        found = await self.find(topic, source, id_)
        if found is None:
            return False
        self._remove(found.number)
        self._recount(topic, -1, -size_of(found))
        self._ids.forget(topic.id, source, id_)
        group = self._group.open
        group.removals.append(("delete_waiting_key", (topic.id, source, id_)))
        group.writers[self._ids] = None
        await self._durable()
        return True

    async def settled(self) -> None:
        """Wait until the table has what has been added so far."""
        if self._added or self._writing:
            await self._durable()

    async def _durable(self) -> None:
        self._group.ring()
        await self._group.durable()

    def _remove(self, number: int) -> None:
        self._leaving.add(number)
        self._removed.append(number)
        self._group.open.removals.append(("delete_scheduled", (number,)))
        self._group.open.writers[self] = None

    # -- moving ------------------------------------------------------------------------------------

    async def run(self, join: Join) -> None:
        """Move due messages into the log, for ever; asleep until the next one is due."""
        try:
            while True:
                self._bell.clear()  # before the look, or a ring is lost
                if not await self._move(join):
                    await self._wait()
        except Unavailable:
            return  # the worker is ending, and the next one goes on from what is on disk

    async def _move(self, join: Join) -> bool:
        """Move one batch in one transaction; say whether there was anything due."""
        due = self._due()
        for number, topic_id, message in due:
            self._remove(number)
            topic = self._topics.get(topic_id)
            if topic is not None:  # else it was dropped, and its rest is being removed
                self._recount(topic, -1, -size_of(message))
                join(topic, message)
        if due:
            await self._durable()
        return bool(due)

    def _due(self) -> list[tuple[int, int, NewMessage]]:
        """Return the next batch of what is due: numbers, topics and messages."""
        due: list[tuple[int, int, NewMessage]] = []
        room = BATCH_BYTES
        limit = BATCH_ROWS + len(self._leaving)
        rows = self._reader.execute(SQL["due_scheduled"], (self._now(), limit))
        for number, topic_id, *columns in rows:
            if number in self._leaving:
                continue
            message = NewMessage(*columns)
            due.append((number, topic_id, message))
            room -= size_of(message)
            if room < 0 or len(due) == BATCH_ROWS:
                break
        rows.close()
        return due

    async def _wait(self) -> None:
        rows = self._reader.execute(SQL["next_scheduled"], (len(self._leaving) + 1,))
        next_at = next((at for number, at in rows if number not in self._leaving), None)
        rows.close()
        timer = None
        if next_at is not None:
            wait_s = min(max(next_at - self._now(), 0.0), LONGEST_WAIT_S)
            timer = asyncio.get_running_loop().call_later(wait_s, self._bell.set)
        await self._bell.wait()
        if timer is not None:
            timer.cancel()
