"""Runs of ids: those that one request brought, in one row."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from broker.model import NewMessage

# A row for fewer is no cheaper than a row for each.
SHORTEST = 8

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

    def find(self, id_: str) -> tuple[int, bytes] | None:
        """Return the seq and the fingerprint of an id, None where it is not one of these."""
        if not self.first <= id_ <= self.last:
            return None
        ids = _decode(self.ids)
        place = bisect_left(ids, id_)
        if ids[place] != id_:
            return None
        length = len(self.fingerprints) // len(ids)
        return self.seq + place, self.fingerprints[place * length : (place + 1) * length]


def run_of(topic: int, messages: Sequence[NewMessage], seq: int, now: float) -> IdRun:
    """Make a run of what `rises`."""
    ids = [message.id for message in messages]
    return IdRun(
        topic,
        messages[0].source,
        ids[0],
        ids[-1],
        seq,
        now,
        _encode(ids).decode(),
        b"".join([message.fingerprint or b"" for message in messages]),
    )


def rises(messages: Sequence[NewMessage], above: str) -> bool:
    """Say whether ids that publishers chose rise from message to message, all above one.

    They are of one source, their fingerprints of one length, and none waits for its time.
    """
    source, length = messages[0].source, len(messages[0].fingerprint or b"")
    for message in messages:
        fingerprint = message.fingerprint
        if (
            message.id <= above
            or message.source != source
            or fingerprint is None
            or len(fingerprint) != length
            or message.deliver_at is not None
        ):
            return False
        above = message.id
    return True
