"""The topics' logs: appending, recognising repeats, reading, and the newest part in memory."""

import sqlite3
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from broker.model import Appended, Message, NewMessage, Scheduled
from broker.store.port import IdTaken
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.queries import SQL

TAIL_BYTES = 32 * 1024 * 1024
MESSAGE_OVERHEAD_BYTES = 200
SOURCES_REMEMBERED = 10_000
NOT_YET = 0  # stands for the seq of a message that waits for its time


class Follower(Protocol):
    """Something to be woken when a topic has grown."""

    def ring(self) -> None:
        """Hear that there is something new."""


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
        self.tail: deque[Message] = deque()
        self.followers: list[Follower] = []


class Log:
    """Every topic's messages."""

    def __init__(
        self,
        group: GroupCommit,
        reader: sqlite3.Connection,
        now: Callable[[], float],
        ids: "RecentIds",
        waiting: Waiting,
    ) -> None:
        self._group = group
        self._reader = reader
        self._now = now
        self._ids = ids
        self._waiting = waiting
        self._written: list[tuple[TopicLog, Message]] = []
        self._writing: list[tuple[TopicLog, Message]] = []
        self._tails: deque[TopicLog] = deque()
        self._tail_bytes = 0

    async def append(self, topic: TopicLog, messages: Sequence[NewMessage]) -> list[Appended]:
        """Queue messages for the next group and wait until they are on disk."""
        now = self._now()
        first_seen = self._ids.find(topic, messages, now)
        appended = self._place(topic, messages, first_seen, now)
        self._group.ring()
        await self._group.durable()
        return appended

    def join(self, topic: TopicLog, message: NewMessage) -> None:
        """Add a message that has waited for its time to the open group."""
        self._place(topic, (message,), {}, self._now())

    def _place(
        self,
        topic: TopicLog,
        messages: Sequence[NewMessage],
        first_seen: Mapping[int, int],
        now: float,
    ) -> list[Appended]:
        """Give each message its sequence, or that of the one it repeats."""
        seq = topic.last_seq
        group, written = self._group.open, self._written
        appended: list[Appended] = []
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
            stored = Message(seq, message.key, message.attributes, message.data, now)
            written.append((topic, stored))
            group.messages.append(
                (topic.id, seq, message.key, message.attributes, message.data, now)
            )
            if message.fingerprint is not None:
                row = (topic.id, message.source, message.id, seq, message.fingerprint, now)
                group.publish_keys.append(row)
                self._ids.add(row)
            topic.bytes += size_of(stored)
            appended.append(Appended(message.id, seq, False))
        topic.message_count += seq - topic.last_seq
        topic.last_seq = seq
        group.writers[self] = group.writers[self._ids] = None
        return appended

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
        self._group.open.publish_keys.append(row)
        self._ids.add(row)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the counts of the topics that have grown."""
        self._writing, self._written = self._written, []
        connection.executemany(
            SQL["update_topic_counts"],
            [
                (topic.last_seq, topic.message_count, topic.bytes, topic.id)
                for topic in {topic.id: topic for topic, _ in self._writing}.values()
            ],
        )

    def written(self) -> None:
        """Keep what is durable now as the newest part, and wake those who follow."""
        grown: dict[int, TopicLog] = {}
        for topic, message in self._writing:
            topic.durable_seq = message.seq
            if topic.followers:
                topic.tail.append(message)
                self._tails.append(topic)
                self._tail_bytes += size_of(message) + MESSAGE_OVERHEAD_BYTES
            elif topic.tail:
                self.drop_tail(topic)  # the tail has no gaps
            grown[topic.id] = topic
        self._writing = []
        while self._tail_bytes > TAIL_BYTES:
            self._forget(self._tails.popleft())
        for topic in grown.values():
            for follower in topic.followers:
                follower.ring()

    def _forget(self, topic: TopicLog) -> None:
        self._tail_bytes -= size_of(topic.tail.popleft()) + MESSAGE_OVERHEAD_BYTES

    def drop_tail(self, topic: TopicLog) -> None:
        """Forget the newest part of a topic that is dropped, or that nobody follows any more."""
        while topic.tail:
            self._forget(topic)
        self._tails = deque(each for each in self._tails if each is not topic)

    def page(self, topic: TopicLog, after: int, limit: int) -> Sequence[Message]:
        """Return up to `limit` durable messages after a seq, from memory where they are there."""
        limit = min(limit, topic.durable_seq - after)
        if limit <= 0:
            return ()
        tail = topic.tail
        if tail and after + 1 >= tail[0].seq:
            start = after + 1 - tail[0].seq
            return [tail[place] for place in range(start, start + limit)]
        rows = self._reader.execute(SQL["read_messages"], (topic.id, after, limit))
        return [Message(*row) for row in rows]


class RecentIds:
    """Which ids have been seen, looked up only where an id could be a repeat."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        # What has been added, None where it has been forgotten, and is not in the table yet.
        self._open: dict[tuple[int, str, str], tuple[int, bytes, float] | None] = {}
        self._writing: dict[tuple[int, str, str], tuple[int, bytes, float] | None] = {}
        # An id above the highest that a source has used cannot be a repeat. Ids made from the time
        # always are, so for them no look-up is needed, however long the window.
        self._highest: OrderedDict[tuple[int, str], str] = OrderedDict()

    def add(self, row: tuple[int, str, str, int, bytes, float]) -> None:
        """Remember an id that is about to be written."""
        topic, source, id_, seq, fingerprint, stored_at = row
        self._open[(topic, source, id_)] = (seq, fingerprint, stored_at)
        # A source that has been forgotten stays so: its highest may be in the file.
        highest = self._highest.get((topic, source))
        if highest is not None and id_ > highest:
            self._highest[(topic, source)] = id_

    def forget(self, topic: int, source: str, id_: str) -> None:
        """Let an id be free whose row the open group removes."""
        self._open[(topic, source, id_)] = None

    def write(self, connection: sqlite3.Connection) -> None:
        """Begin a new group."""
        self._writing, self._open = self._open, {}

    def written(self) -> None:
        """Look in the table from now on, which also knows how old an id is."""
        self._writing = {}

    def find(self, topic: TopicLog, messages: Sequence[NewMessage], now: float) -> dict[int, int]:
        """Return, by position, the seq that a repeat already has, NOT_YET if that one waits.

        For the repeat of a message in this same sequence it is ~ the position of the first. Raises
        IdTaken where the fingerprints differ.
        """
        found: dict[int, int] = {}
        here: dict[tuple[str, str], tuple[int, bytes]] = {}
        for position, message in enumerate(messages):
            fingerprint = message.fingerprint
            if fingerprint is None:
                if message.deliver_at is not None:
                    raise ValueError("a message that has deliver_at needs a fingerprint")
                continue
            identity = (message.source, message.id)
            known = here.get(identity)
            if known is None:
                known = self._find(topic, message.source, message.id, now)
                if known is None:
                    here[identity] = (~position, fingerprint)
                    continue
            if known[1] and known[1] != fingerprint:  # empty: made by an older rule
                raise IdTaken(message.source, message.id)
            found[position] = known[0]
        return found

    def _find(self, topic: TopicLog, source: str, id_: str, now: float) -> tuple[int, bytes] | None:
        identity = (topic.id, source, id_)
        known = self._known(identity)
        if known is None:
            return None
        seq, fingerprint, since = known
        if seq != NOT_YET and since <= now - topic.window_s:
            return None
        return seq, fingerprint

    def _known(self, identity: tuple[int, str, str]) -> tuple[int, bytes, float] | None:
        for pending in (self._open, self._writing):
            if identity in pending:
                return pending[identity]
        topic, source, id_ = identity
        if id_ > self._highest_of(topic, source):
            return None
        known: tuple[int, bytes, float] | None = self._reader.execute(
            SQL["find_publish_key"], identity
        ).fetchone()
        return known

    def _highest_of(self, topic: int, source: str) -> str:
        highest = self._highest.get((topic, source))
        if highest is None:
            (highest,) = self._reader.execute(SQL["highest_publish_id"], (topic, source)).fetchone()
            pending = (*self._open, *self._writing)
            highest = max(
                [highest or "", *(id_ for t, s, id_ in pending if (t, s) == (topic, source))]
            )
            self._highest[(topic, source)] = highest
            if len(self._highest) > SOURCES_REMEMBERED:
                self._highest.popitem(last=False)
        return highest


def size_of(message: Message | NewMessage | Scheduled) -> int:
    """Return how many bytes of a message count."""
    return len(message.attributes) + (len(message.data) if message.data is not None else 0)
