"""The topics' logs: appending, reading, and the newest part in memory."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import repeat
from typing import NamedTuple, Protocol

from broker.model import Appended, Message, NewMessage, size_of, sizes_of
from broker.new_batch import NewBatch
from broker.store.port import PAGE_BYTES, Waiter
from broker.store.sqlite.block import insertions, messages_in, rows_of
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.id_run import runs_of
from broker.store.sqlite.journal import Executes
from broker.store.sqlite.queries import SQL
from broker.store.sqlite.recent_ids import NOT_YET, KeyRow, RecentIds
from broker.store.sqlite.tail import Page, Tail

# More than the processor's caches hold would have to be fetched from memory again to be freed.
TAIL_BYTES = 4 * 1024 * 1024
MESSAGE_OVERHEAD_BYTES = 250
PIECE_BYTES = 256 * 1024
PIECE_OVERHEAD_BYTES = 200


class Follower(Protocol):
    """Something to be woken when a topic has grown."""

    def ring(self) -> None:
        """Hear that there is something new."""


class Watcher:
    """A follower that has nothing but a bell."""

    __slots__ = ("bell",)

    def __init__(self) -> None:
        self.bell = asyncio.Event()

    def ring(self) -> None:
        """Hear that there is something new."""
        self.bell.set()


class Waiting(Protocol):
    """Where messages wait for their time."""

    def add(self, topic: "TopicLog", message: NewMessage, now: float) -> None:
        """Have a message wait, from the commit of the open group on."""


class TopicLog:
    """One topic's place in the log. `last_seq` counts what is not on disk yet as well.

    `message_count` and `bytes` are of the log, `scheduled_…` of what waits to join it.
    """

    __slots__ = (
        "bytes",
        "durable_seq",
        "first_seq",
        "followers",
        "id",
        "last_seq",
        "message_count",
        "name",
        "scheduled_bytes",
        "scheduled_count",
        "tail",
        "window_s",
    )

    def __init__(
        self,
        id_: int,
        name: str,
        last_seq: int = 0,
        message_count: int = 0,
        bytes_: int = 0,
        first_seq: int = 1,
        scheduled_count: int = 0,
        scheduled_bytes: int = 0,
    ) -> None:
        self.id = id_
        self.name = name
        self.last_seq = self.durable_seq = last_seq
        self.message_count = message_count
        self.bytes = bytes_
        self.first_seq = first_seq
        self.scheduled_count = scheduled_count
        self.scheduled_bytes = scheduled_bytes
        self.window_s = 86400.0
        self.tail = Tail()
        self.followers: list[Follower] = []


class Stretch:
    """Messages that one group appends to a topic, and their sizes."""

    __slots__ = ("messages", "sizes")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.sizes: list[int] = []

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Yield how many messages there are and what they take up in memory, part by part."""
        count, held = 0, PIECE_OVERHEAD_BYTES
        for size in self.sizes:
            if held > PIECE_BYTES:
                yield count, held
                count, held = 0, PIECE_OVERHEAD_BYTES
            count += 1
            held += size + MESSAGE_OVERHEAD_BYTES
        yield count, held


class Piece(NamedTuple):
    """A part of a topic's tail that is forgotten as a whole."""

    topic: TopicLog
    messages: int
    size: int


class Log:
    """Every topic's messages."""

    def __init__(
        self,
        group: GroupCommit,
        reader: sqlite3.Connection,
        now: Callable[[], float],
        ids: RecentIds,
        waiting: Waiting,
    ) -> None:
        self._group = group
        self._reader = reader
        self._now = now
        self._ids = ids
        self._waiting = waiting
        self._open: dict[TopicLog, Stretch] = {}
        self._writing: dict[TopicLog, Stretch] = {}
        self._tails: deque[Piece] = deque()
        self._tail_bytes = 0

    def append_soon(
        self, topic: TopicLog, messages: Sequence[NewMessage], waiter: Waiter
    ) -> list[Appended]:
        """Queue messages for the next group; the waiter is told once they are on disk."""
        now = self._now()
        if len(messages) == 1 and _can_be_no_repeat(message := messages[0]):
            appended = [self._place_one(topic, message, now)]
        elif (batch := self._ids.as_new_runs(topic.id, messages)) is not None:
            appended = self._place_runs(topic, batch, now)
        else:
            if type(messages) is NewBatch:
                messages = list(messages)  # each is asked for again and again
            first_seen = self._ids.find(topic.id, messages, now - topic.window_s)
            appended = self._place(topic, messages, first_seen, now)
        self._write_with_next()
        self._group.ring()
        self._group.tell(waiter)
        return appended

    def join(self, topic: TopicLog, message: NewMessage) -> None:
        """Add a message that has waited for its time to the open group."""
        self._place(topic, (message,), {}, self._now())
        self._write_with_next()

    def _write_with_next(self) -> None:
        writers = self._group.open.writers
        writers[self] = writers[self._ids] = None

    def _place_one(self, topic: TopicLog, message: NewMessage, now: float) -> Appended:
        """Give a message its sequence that can be no repeat, as most requests bring one."""
        seq = topic.last_seq + 1
        stretch, size = self._stretch_of(topic), size_of(message)
        stretch.messages.append(Message(seq, message.key, message.attributes, message.data, now))
        stretch.sizes.append(size)
        topic.bytes += size
        topic.message_count += 1
        topic.last_seq = seq
        return Appended(message.id, seq, False)

    def _place_runs(self, topic: TopicLog, batch: NewBatch, now: float) -> list[Appended]:
        """Give each message its sequence: none is a repeat, and their ids are runs."""
        first = topic.last_seq + 1
        seqs = range(first, first + len(batch))
        self._ids.add_runs(runs_of(topic.id, batch, first, now))
        columns = batch.keys, batch.attributes, batch.contents
        self._store(topic, list(map(Message, seqs, *columns, repeat(now))), batch.sizes())
        return list(map(Appended, batch.ids, seqs, repeat(False)))

    def _place(
        self,
        topic: TopicLog,
        messages: Sequence[NewMessage],
        first_seen: Mapping[int, int],
        now: float,
    ) -> list[Appended]:
        """Give each message its sequence, or that of the one it repeats."""
        topic_id, seq = topic.id, topic.last_seq
        appended: list[Appended] = []
        stored: list[Message] = []
        keys: list[KeyRow] = []
        for position, message in enumerate(messages):
            known = first_seen.get(position)
            if known is not None:
                first = known if known >= 0 else appended[~known].sequence  # of this very batch
                appended.append(Appended(message.id, None if first == NOT_YET else first, True))
                continue
            if message.deliver_at is not None and message.deliver_at > now:
                self._delay(topic, message, now)
                appended.append(Appended(message.id, None, False))
                continue
            seq += 1
            stored.append(Message(seq, message.key, message.attributes, message.data, now))
            if message.fingerprint is not None:
                keys.append((topic_id, message.source, message.id, seq, message.fingerprint, now))
            appended.append(Appended(message.id, seq, False))
        if stored:
            self._store(topic, stored, sizes_of(stored))
        if keys:
            self._ids.add(keys)
        return appended

    def _store(self, topic: TopicLog, messages: Sequence[Message], sizes: Sequence[int]) -> None:
        """Add messages to the open group, and to the topic's counts."""
        stretch = self._stretch_of(topic)
        stretch.messages += messages
        stretch.sizes += sizes
        topic.bytes += sum(sizes)
        topic.message_count += len(messages)
        topic.last_seq = messages[-1].seq

    def _stretch_of(self, topic: TopicLog) -> Stretch:
        stretch = self._open.get(topic)
        if stretch is None:
            stretch = self._open[topic] = Stretch()
        return stretch

    def _delay(self, topic: TopicLog, message: NewMessage, now: float) -> None:
        """Have a message wait, its identity known from now on; the age of that begins when due."""
        self._waiting.add(topic, message, now)
        row = (
            topic.id,
            message.source,
            message.id,
            NOT_YET,
            message.fingerprint or b"",
            message.deliver_at or now,
        )
        self._ids.add((row,))

    def write(self, connection: Executes) -> None:
        """Write what has been added, and the counts of the topics that have grown."""
        self._writing, self._open = self._open, {}
        blocks = (
            row
            for topic, stretch in self._writing.items()
            for row in rows_of(topic.id, stretch.messages, stretch.sizes)
        )
        for statement, rows in insertions(blocks):
            connection.executemany(SQL[statement], rows)
        connection.executemany(
            SQL["update_topic_counts"],
            [
                (topic.last_seq, topic.message_count, topic.bytes, topic.id)
                for topic in self._writing
            ],
        )

    def written(self) -> None:
        """Keep what is durable now as the newest part, and wake those who follow."""
        grown, self._writing = self._writing, {}
        for topic, stretch in grown.items():
            topic.durable_seq = stretch.messages[-1].seq
            if topic.followers:
                topic.tail.add(stretch.messages, stretch.sizes)
                for count, size in stretch.pieces():
                    self._tails.append(Piece(topic, count, size))
                    self._tail_bytes += size
            elif topic.tail:
                self.drop_tail(topic)  # the tail has no gaps
        while self._tail_bytes > TAIL_BYTES:
            self._forget_oldest()
        for topic in grown:
            for follower in topic.followers:
                follower.ring()

    def _forget_oldest(self) -> None:
        topic, count, size = self._tails.popleft()
        topic.tail.forget(count)
        self._tail_bytes -= size

    def drop_tail(self, topic: TopicLog) -> None:
        """Forget the newest part of a topic that is dropped, or that nobody follows any more."""
        topic.tail.clear()
        self._tail_bytes -= sum(each.size for each in self._tails if each.topic is topic)
        self._tails = deque(each for each in self._tails if each.topic is not topic)

    def newest(self, topic: TopicLog, after: int, limit: int) -> Page | None:
        """Return what `page` does if that is something and in memory, else None."""
        limit = min(limit, topic.durable_seq - after)
        return topic.tail.page(after, limit) if limit > 0 else None

    def page(self, topic: TopicLog, after: int, limit: int) -> Page | None:
        """Return up to `limit` durable messages after a seq, None where there are none.

        They come from memory where they are there. What comes from the file ends with the message
        that brings it to PAGE_BYTES.
        """
        limit = min(limit, topic.durable_seq - after)
        if limit <= 0:
            return None
        newest = topic.tail.page(after, limit)
        if newest is not None:
            return newest
        messages: list[Message] = []
        sizes: list[int] = []
        room = PAGE_BYTES
        wanted = (topic.id, after, limit, max(after, topic.first_seq - 1) + limit)
        with closing(self._reader.execute(SQL["read_blocks"], wanted)) as rows:
            for message in messages_in(rows, after):
                messages.append(message)
                sizes.append(size_of(message))
                room -= sizes[-1]
                if room <= 0 or len(messages) == limit:
                    break
        return Page(messages, sizes) if messages else None


def _can_be_no_repeat(message: NewMessage) -> bool:
    """Say whether the broker made the id, and the message has not to wait for its time."""
    return message.fingerprint is None and message.deliver_at is None
