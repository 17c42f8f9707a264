"""Finding messages by their seqs."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from broker.model import ExceptionRow, Message
from broker.store.port import Due
from broker.store.sqlite.block import message_in, parts_in
from broker.store.sqlite.queries import SQL


class BlockReader:
    """Reads a topic's messages by their seqs, and a block but once for those of it in a row.

    `without_content` leaves out what they say: they have their seqs, keys and times.
    """

    __slots__ = ("_connection", "_query", "_row", "_seqs", "_topic")

    def __init__(
        self, connection: sqlite3.Connection, topic: int, *, without_content: bool = False
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._query = SQL["block_at" if without_content else "block_of"]
        self._row: Sequence[Any] = ()
        self._seqs = range(0)

    def find(self, seq: int) -> Message | None:
        """Return the message with a seq, None if there is none."""
        if seq not in self._seqs:
            self._read(seq)
        return message_in(self._row, seq) if seq in self._seqs else None

    def _read(self, seq: int) -> None:
        row = self._connection.execute(self._query, (self._topic, seq)).fetchone()
        if row is None:
            self._seqs = range(0)
            return
        first, parts = row[0], row[5]
        self._row = row
        self._seqs = range(first, first + (1 if parts is None else len(parts_in(parts))))

    def dues_of(self, rows: Iterable[Sequence[Any]]) -> Iterator[Due]:
        """Yield what rows of `exception` say, as the queries give them, with their messages."""
        for seq, key, state, attempts, due_at, reason, replayed, since in rows:
            message = self.find(seq)
            if message is not None:
                said = (seq, key, state, attempts, due_at, reason, bool(replayed), since)
                yield Due(ExceptionRow(*said), message)
