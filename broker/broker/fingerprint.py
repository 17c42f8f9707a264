"""Fingerprints: by which a repeat of a publisher's own id is told from another message under it.

A cryptographic digest is a tenth of all that a message in a batch costs. XXH3 takes a fifth of it,
and its seed is drawn by each process and kept with what it made: whoever means one message to pass
for another would have to know it.
"""

from hashlib import sha256
from secrets import token_bytes

import msgspec
from msgspec import Struct
from xxhash import xxh3_128_digest

from broker.model import NewMessage

_SEED_BYTES = 8
_SHA256_BYTES = 32  # what a fingerprint once was

_OWN_SEED = token_bytes(_SEED_BYTES)
_OWN_SEED_NUMBER = int.from_bytes(_OWN_SEED, "little")

_pack = msgspec.msgpack.Encoder().encode


class _Told(Struct):
    """The attributes that a fingerprint is of."""

    type: str
    subject: str | None = None
    partitionkey: str | None = None
    deliverat: str | None = None
    datacontenttype: str | None = None


_decode = msgspec.json.Decoder(_Told).decode


def fingerprint(
    type_: str,
    subject: str | None,
    key: str | None,
    deliver_at: str | None,
    content_type: str | None,
    data: bytes | None,
) -> bytes:
    """Make the fingerprint of an event: of what makes two with one identity different."""
    packed = _pack((type_, subject, key, deliver_at, content_type, data))
    return _OWN_SEED + xxh3_128_digest(packed, _OWN_SEED_NUMBER)


def is_of(known: bytes, message: NewMessage) -> bool:
    """Say whether a fingerprint, of whatever process or version, is that of a message."""
    if known == message.fingerprint:
        return True
    if known.startswith(_OWN_SEED):
        return False
    told = _decode(message.attributes)
    packed = _pack(
        (
            told.type,
            told.subject,
            told.partitionkey,
            told.deliverat,
            told.datacontenttype,
            message.data,
        )
    )
    if len(known) == _SHA256_BYTES:
        return known == sha256(packed).digest()
    seed = known[:_SEED_BYTES]
    return known == seed + xxh3_128_digest(packed, int.from_bytes(seed, "little"))
