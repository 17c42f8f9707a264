"""What the journal consists of, and its wire format."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

# A statement of the table of the last claim, and what it was executed with, row by row.
Executed: TypeAlias = tuple[int, Sequence[Sequence[Any]]]

# The server's default for a message is 1 MiB, its headers included.
PART_BYTES = 960 * 1024


class Claimed(msgspec.Struct, frozen=True, tag="claimed", array_like=True):
    """A broker owns the journal from here on.

    `owner` is told from every other broker's, `url` is where it serves, `rpc` where its gRPC is: a
    host and a port. Its file has this schema and this log, and the groups that follow name
    `statements` by their place.
    """

    owner: str
    url: str
    schema: int
    log_id: str
    created_at: float
    statements: Sequence[str]
    rpc: str = ""  # last, and not said by older brokers


class Part(msgspec.Struct, frozen=True, tag="part", array_like=True):
    """A part of what one group executed; `last` completes it."""

    body: bytes
    last: bool


class Beat(msgspec.Struct, frozen=True, tag="beat", array_like=True):
    """The owner is alive."""


class Released(msgspec.Struct, frozen=True, tag="released", array_like=True):
    """The owner has let go. The broker at the URL `follower` is to own it next; "" is any."""

    follower: str = ""


Record: TypeAlias = Claimed | Part | Beat | Released

encode = msgspec.msgpack.Encoder().encode
_record = msgspec.msgpack.Decoder(Claimed | Part | Beat | Released)
_group = msgspec.msgpack.Decoder(list[Executed])


def decode(payload: bytes) -> Record:
    """Read a record. Raises msgspec.DecodeError."""
    record: Record = _record.decode(payload)
    return record


def parts_of(group: Sequence[Executed], size: int = PART_BYTES) -> list[Part]:
    """Part what a group executed into records of at most about `size` bytes."""
    body = encode(group)
    starts = range(0, len(body), size)
    return [Part(body[start : start + size], start + size >= len(body)) for start in starts]


class Assembly:
    """Puts parts together again."""

    def __init__(self) -> None:
        self._body = bytearray()

    def add(self, part: Part) -> list[Executed] | None:
        """Return the group that a part completes."""
        self._body += part.body
        if not part.last:
            return None
        group: list[Executed] = _group.decode(self._body)
        self._body.clear()
        return group

    def forget(self) -> None:
        """Forget a group whose owner did not complete it."""
        self._body.clear()
