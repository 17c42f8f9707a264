"""Runs of ids: many that one request brought, in one row."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import lt
from typing import NamedTuple

import msgspec

from broker.new_batch import NewBatch

# A row for fewer is no cheaper than a row for each. One for more is dear for whoever looks for one
# of them: a run is read as a whole.
SHORTEST = 8
LONGEST = 128
MOST_CHARACTERS = 64  # an id, in the mean

_decode = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.Encoder().encode


class IdRun(NamedTuple):
    """Ids of one source that rise from message to message, as the table has them.

    `seq` is that of the message with the first id; those of the others follow it. `ids` is a JSON
    array, and `fingerprints` has one behind the other, all of one length.
    """

    topic: int
    source: str
    first: str
    last: str
    seq: int
    stored_at: float
    ids: str
    fingerprints: bytes


class OpenRun:
    """A run that has been read, for looking up any number of its ids."""

    __slots__ = ("_ids", "_length", "_run")

    def __init__(self, run: IdRun) -> None:
        self._run = run
        self._ids = _decode(run.ids)
        self._length = len(run.fingerprints) // len(self._ids)

    def spans(self, id_: str) -> bool:
        """Say whether an id of the source can be in this run, and so in no other."""
        return self._run.first <= id_ <= self._run.last

    def find(self, id_: str) -> tuple[int, bytes, float] | None:
        """Return the seq, the fingerprint and the time of an id, None where it is not in it."""
        place, length, run = bisect_left(self._ids, id_), self._length, self._run
        if place == len(self._ids) or self._ids[place] != id_:
            return None
        fingerprint = run.fingerprints[place * length : (place + 1) * length]
        return run.seq + place, fingerprint, run.stored_at


def runs_of(topic: int, batch: NewBatch, first: int, now: float) -> Iterator[IdRun]:
    """Make runs of messages whose ids `rise`; `first` is the seq of the first."""
    for start in range(0, len(batch), LONGEST):
        ids = batch.ids[start : start + LONGEST]
        yield IdRun(
            topic,
            batch.source,
            ids[0],
            ids[-1],
            first + start,
            now,
            _encode(ids).decode(),
            b"".join(batch.fingerprints[start : start + LONGEST]),
        )


def rise(ids: Sequence[str], above: str) -> bool:
    """Say whether ids rise from message to message, all above one, and are of common length."""
    return (
        ids[0] > above
        and all(map(lt, ids, ids[1:]))
        and sum(map(len, ids)) <= MOST_CHARACTERS * len(ids)
    )
