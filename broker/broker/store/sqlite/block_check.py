"""Whether rows of messages have what they say, for the queries of check.sql."""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec

from broker.model import Message
from broker.store.sqlite.block import data_end_of, message_in, messages_in, parts_in

_decode_event = msgspec.json.Decoder(dict[str, Any]).decode
_decode_ids = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.Encoder().encode


def add_functions(connection: sqlite3.Connection) -> None:
    """Let a connection's queries ask these functions."""
    for function, arguments in (
        (messages_of, 1),
        (bytes_from, 4),
        (faults_of, 6),
        (is_message, 6),
        (others_among, 7),
        (has_key, 5),
    ):
        connection.create_function(function.__name__, arguments, function, deterministic=True)


def messages_of(parts: str | None) -> int:
    """Count a row's messages: one, if it cannot be told."""
    return 1 if parts is None else max(1, len(_parts_in(parts)))


def bytes_from(first: int, seq: int, size: int, parts: str | None) -> int:
    """Return how many of a row's bytes are of messages with seq >= `first`."""
    known = () if parts is None else _parts_in(parts)
    if first <= seq or first - seq >= len(known):
        return size
    before = known[first - seq - 1]
    return size - int(before[1]) - data_end_of(before)


def faults_of(
    topic: int,
    seq: int,
    key: str | None,
    attributes: bytes,
    data: bytes | None,
    parts: str | None,
) -> str:
    """Tell what is wrong with a row: a JSON array of sentences."""
    if parts is not None and not _hold(_parts_in(parts), key, attributes, data):
        place = f"of topic number {topic} from message {seq} on"
        return _encode([f"the row {place} is not what it says"]).decode()
    faults = []
    for message in messages_in([(seq, key, attributes, data, 0.0, parts)], 0):
        event = _event_in(message)
        name = f"message {message.seq} of topic number {topic}"
        if event is None or not all(
            isinstance(event.get(each), str) for each in ("id", "source", "type")
        ):
            faults.append(f"{name} is not an event")
        elif message.key != _text(event.get("partitionkey")):
            faults.append(f"{name} has a key that its event has not")
    return _encode(faults).decode()


def is_message(
    id_: str,
    source: str,
    seq: int,
    first: int,
    attributes: bytes,
    parts: str | None,
) -> bool:
    """Say whether the message with a seq has this id and source, in the row that may have it.

    Of what cannot be read `faults_of` tells.
    """
    if seq - first >= messages_of(parts):
        return False
    if parts is not None and not _parts_in(parts):
        return True
    event = _event_in(message_in((first, None, attributes, None, 0.0, parts), seq))
    return event is None or (event.get("id") == id_ and event.get("source") == source)


def others_among(
    ids: str,
    source: str,
    begin: int,
    kept_from: int,
    first: int,
    attributes: bytes,
    parts: str | None,
) -> str:
    """Tell which ids of a run have another event in a row: a JSON array of ids with their seqs.

    `begin` is the seq of the run's first id; of messages before `kept_from` nothing is said.
    """
    try:
        run = _decode_ids(ids)
    except (msgspec.DecodeError, ValueError):  # told of by itself
        return "[]"
    others = []
    if parts is None or _parts_in(parts):
        for message in messages_in([(first, None, attributes, b"", 0.0, parts)], 0):
            place = message.seq - begin
            if message.seq < kept_from or not 0 <= place < len(run):
                continue
            event = _event_in(message)
            if event is not None and (event.get("id"), event.get("source")) != (run[place], source):
                others.append((run[place], message.seq))
    return _encode(others).decode()


def has_key(wanted: str | None, seq: int, first: int, key: str | None, parts: str | None) -> bool:
    """Say whether the message with a seq has this key, in the row that may have it."""
    if seq - first >= messages_of(parts):
        return False
    if parts is None:
        return key == wanted
    known = _parts_in(parts)
    return not known or known[seq - first][0] == wanted


@lru_cache(4)
def _parts_in(parts: str) -> Sequence[tuple[Any, ...]]:
    """Return what `parts` says, nothing if that cannot be read."""
    try:
        known = parts_in(parts)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ()
    return known if all(map(_is_part, known)) else ()


def _is_part(part: Sequence[Any]) -> bool:
    if len(part) not in {3, 4}:
        return False
    key, end, data_end, *at = part
    return (
        (key is None or isinstance(key, str))
        and type(end) is type(data_end) is int
        and all(each is None or type(each) in {int, float} for each in at)
    )


def _hold(
    parts: Sequence[Sequence[Any]], key: str | None, attributes: bytes, data: bytes | None
) -> bool:
    """Say whether parts are of what else the row has."""
    if len(parts) < 2 or key is not None or data is None:
        return False
    if parts[-1][1] != len(attributes) or data_end_of(parts[-1]) != len(data):
        return False
    ends = [0, *(part[1] for part in parts)]
    data_ends = [0, *map(data_end_of, parts)]
    return all(a <= b for a, b in (*pairwise(ends), *pairwise(data_ends)))


def _event_in(message: Message) -> dict[str, Any] | None:
    try:
        return _decode_event(message.attributes)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
