"""Reading topics' logs for those who look: by the page, or as messages come."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from math import inf

import msgspec

from broker.model import Message, size_of
from broker.store.sqlite.block import messages_in
from broker.store.sqlite.log import Log, TopicLog, Watcher
from broker.store.sqlite.queries import SQL

END = 2**62
SCAN_ROWS = 10_000
WATCH_PAGE = 256
WATCH_BYTES = 256 * 1024  # what each of a thousand watchers that do not read may keep in memory


class Reading:
    """Reads files in a thread, so that the event loop does not wait for the disk."""

    def __init__(self, log: Log, scanner: sqlite3.Connection, threads: Executor) -> None:
        self._log = log
        self._scanner = scanner
        self._threads = threads

    async def read(
        self,
        topic: TopicLog,
        after: int,
        limit: int,
        key: str | None,
        type_: str | None,
        room: float = inf,
        id_: str | None = None,
    ) -> tuple[Sequence[Message], int | None]:
        """Return a page of messages with seq > after, and where to read on, None at the end.

        It ends with the message that brings it to `room` bytes.
        """
        first = max(after, topic.first_seq - 1)
        scan = partial(self._scan, topic.id, first, limit, key, type_, room, id_)
        return await asyncio.get_running_loop().run_in_executor(self._threads, scan)

    def _scan(
        self,
        topic: int,
        after: int,
        limit: int,
        key: str | None,
        type_: str | None,
        room: float,
        id_: str | None,
    ) -> tuple[Sequence[Message], int | None]:
        """Read in log order, looking at no more than SCAN_ROWS messages for what is rare."""
        filtered = key is not None or type_ is not None or id_ is not None
        look_at = SCAN_ROWS if filtered else limit + 1
        found: list[Message] = []
        looked = 0
        # To the end: the log may begin later than when this was asked for.
        parameters = (topic, after, look_at, END)
        with closing(self._scanner.execute(SQL["read_blocks"], parameters)) as rows:
            for message in messages_in(rows, after):
                if looked == look_at:
                    break
                looked += 1
                if _is_wanted(message, key, type_, id_):
                    if len(found) == limit or room <= 0:
                        return found, found[-1].seq
                    found.append(message)
                    room -= size_of(message)
                after = message.seq
        return found, after if filtered and looked == look_at else None

    async def watch(
        self,
        topic: TopicLog,
        after: int | None,
        key: str | None,
        type_: str | None,
        exists: Callable[[], bool],
    ) -> AsyncGenerator[Sequence[Message], None]:
        """Yield pages of messages with seq > after, and go on as they come while it exists."""
        watcher = Watcher()
        topic.followers.append(watcher)
        try:
            seq = topic.durable_seq if after is None else after
            while exists():
                watcher.bell.clear()  # before the look, or a ring is lost
                if seq >= topic.durable_seq:
                    await watcher.bell.wait()
                    continue
                found, seq = await self._newer(topic, seq, key, type_)
                if found:
                    yield found
                else:
                    await asyncio.sleep(0)  # others have a turn, however little is wanted
        finally:
            topic.followers.remove(watcher)

    async def _newer(
        self, topic: TopicLog, seq: int, key: str | None, type_: str | None
    ) -> tuple[Sequence[Message], int]:
        """Return what is wanted of the next page, and how far that goes."""
        page = self._log.newest(topic, seq, WATCH_PAGE)
        if page is not None:
            messages = page.beginning(WATCH_BYTES).messages
            return [each for each in messages if _is_wanted(each, key, type_)], messages[-1].seq
        end = topic.durable_seq
        found, following = await self.read(topic, seq, WATCH_PAGE, key, type_, WATCH_BYTES)
        if following is None:
            following = max([end, *(each.seq for each in found)])
        return found, following


def _is_wanted(
    message: Message, key: str | None, type_: str | None, id_: str | None = None
) -> bool:
    if key is not None and message.key != key:
        return False
    if type_ is None and id_ is None:
        return True
    named = msgspec.json.decode(message.attributes, type=_Named)
    return (type_ is None or named.type == type_) and (id_ is None or named.id == id_)


class _Named(msgspec.Struct):
    type: str
    id: str
