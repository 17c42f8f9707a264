"""Blocks: messages that follow one another in the log, in one row.

A row costs SQLite as much as reading the event does, and for a block it is one for all. A message
that is large has a row of its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec

from broker.model import Message
from broker.store.port import LogEntry

# Who looks for one message reads all of its row. As much as fills three pages besides what SQLite
# keeps of a row within the tree.
MOST_BYTES = 26_000
MOST_MESSAGES = 128
_PART_BYTES = 16  # of its place in `parts`
# Up to which a row surely lies within a page of the tree: it may have 2,030 bytes there.
_SMALL_BYTES = 1_900

# topic, seq, key, attributes, data, stored_at, parts: as the tables have them
BlockRow: TypeAlias = tuple[int, int, str | None, bytes, bytes | None, float, str | None]
# its key, where its attributes end, where its data ends, ~ that if it has none; and its time where
# that is another
Part: TypeAlias = tuple[str | None, int, int] | tuple[str | None, int, int, float | None]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[Any, ...]]).decode


def rows_of(topic: int, messages: Sequence[Message], sizes: Sequence[int]) -> Iterator[BlockRow]:
    """Make rows of what a group appends to a topic."""
    begin, room = 0, 0
    for place, size in enumerate(sizes):
        room -= size + _PART_BYTES
        if room < 0 or place - begin == MOST_MESSAGES:
            if place > begin:
                yield _row_of(topic, messages[begin:place])
            begin, room = place, MOST_BYTES - size - _PART_BYTES
    if begin < len(messages):
        yield _row_of(topic, messages[begin:])


def _row_of(topic: int, messages: Sequence[Message]) -> BlockRow:
    first = messages[0]
    if len(messages) == 1:
        return topic, first.seq, first.key, first.attributes, first.data, first.stored_at, None
    attributes = [message.attributes for message in messages]
    contents = [message.data for message in messages]
    data = [content or b"" for content in contents]
    data_ends: Iterable[int] = accumulate(map(len, data))
    if None in contents:
        pairs = zip(contents, data_ends, strict=True)
        data_ends = [~end if content is None else end for content, end in pairs]
    ends = [message.key for message in messages], accumulate(map(len, attributes)), data_ends
    times = [message.stored_at for message in messages]
    parts: list[Part]
    if times.count(first.stored_at) == len(times):
        parts = list(zip(*ends, strict=True))
    else:
        parts = list(zip(*ends, _changes(times), strict=True))
    together = b"".join(attributes), b"".join(data)
    return topic, first.seq, None, *together, first.stored_at, _encode(parts).decode()


def insertions(rows: Iterable[BlockRow]) -> list[tuple[str, list[BlockRow]]]:
    """Return which rows are put in with which statement: by size, into one table or the other."""
    small: list[BlockRow] = []
    large: list[BlockRow] = []
    for row in rows:
        _, _, key, attributes, data, _, parts = row
        size = len(attributes) + len(data or b"") + _bytes_of(key) + _bytes_of(parts)
        (small if size <= _SMALL_BYTES else large).append(row)
    both = ("insert_small_block", small), ("insert_large_block", large)
    return [(statement, some) for statement, some in both if some]


def _bytes_of(text: str | None) -> int:
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _changes(times: Sequence[float]) -> Iterator[float | None]:
    """Yield each time, None for one that is the same as the one before."""
    before = times[0]
    for at in times:
        yield None if at == before else at
        before = at


def messages_in(rows: Iterable[Sequence[Any]], after: int) -> Iterator[Message]:
    """Yield the messages with seq > after of rows: seq, key, attributes, data, stored_at, parts."""
    for first, key, attributes, data, stored_at, parts in rows:
        if parts is None:
            if first > after:
                yield Message(first, key, attributes, data, stored_at)
            continue
        begin = data_begin = 0
        for seq, part in enumerate(parts_in(parts), first):
            end, data_end = part[1:3]
            if len(part) > 3 and part[3] is not None:
                stored_at = part[3]
            if seq > after:
                content = None if data_end < 0 else data[data_begin:data_end]
                yield Message(seq, part[0], attributes[begin:end], content, stored_at)
            begin, data_begin = end, max(data_end, ~data_end)


def message_in(row: Sequence[Any], seq: int) -> Message:
    """Return the message with a seq, which the row has."""
    first, key, attributes, data, stored_at, parts = row
    if parts is None:
        return Message(first, key, attributes, data, stored_at)
    known = parts_in(parts)
    place = seq - first
    before = known[place - 1] if place else (None, 0, 0)
    key, end, data_end = known[place][:3]
    content = None
    if data is not None and data_end >= 0:
        content = data[data_end_of(before) : data_end]
    times = [part[3] for part in known[: place + 1] if len(part) > 3 and part[3] is not None]
    return Message(
        seq, key, attributes[before[1] : end], content, times[-1] if times else stored_at
    )


def stored_at(row: Sequence[Any], seq: int) -> float:
    """Return when the message with a seq was stored, or the row's first if that comes later."""
    return message_in(row, max(seq, row[0])).stored_at


def taken_out(
    topic: int, rows: Iterable[Sequence[Any]], seqs: Iterable[int], end: int
) -> Iterator[BlockRow]:
    """Make rows of some of the messages alone, of those blocks that end before a seq."""
    wanted = frozenset(seqs)
    for row in rows:
        messages = list(messages_in((row,), 0))
        if messages[-1].seq < end:
            yield from (_row_of(topic, (each,)) for each in messages if each.seq in wanted)


def entries_in(rows: Iterable[Sequence[Any]], first: int) -> Iterator[LogEntry]:
    """Yield an entry for each message with seq >= first of rows: seq, stored_at, size, parts."""
    for begin, stored_at, size, parts in rows:
        if parts is None:
            if begin >= first:
                yield LogEntry(begin, stored_at, size)
            continue
        before = 0
        for seq, part in enumerate(parts_in(parts), begin):
            if len(part) > 3 and part[3] is not None:
                stored_at = part[3]
            end = part[1] + data_end_of(part)
            if seq >= first:
                yield LogEntry(seq, stored_at, end - before)
            before = end


@lru_cache(4)  # rows are often asked for one message after the other
def parts_in(parts: str) -> Sequence[tuple[Any, ...]]:
    """Return where each message of a row stands."""
    return _decode(parts)


def data_end_of(part: Sequence[Any]) -> int:
    """Return where the data of a message ends, which may have none."""
    end: int = part[2]
    return max(end, ~end)
