"""The signed URL at which an endpoint that answered `later` tells how it ended.

Its token names the delivery and the attempt, and is a bearer capability: whoever has it may settle
that delivery and nothing else. It is signed with the subscription's own secret, which the endpoint
knows anyway, so it needs no API key and no state.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

_MAC_BYTES = 16


class Claim(Struct, frozen=True, array_like=True):
    """What a token names: a request's deliveries, each with its attempt, in one generation."""

    shard: int
    generation: int
    seqs: list[int]
    attempts: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Claim).decode


def token_of(claim: Claim, key: bytes) -> str:
    """Write a claim as a token."""
    body = _encode(claim)
    return urlsafe_b64encode(_mac(body, key) + body).rstrip(b"=").decode()


def claim_in(token: str, keys: Sequence[bytes]) -> Claim | None:
    """Read a token that one of the keys has signed; None for any other."""
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return None
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not any(hmac.compare_digest(mac, _mac(body, key)) for key in keys):
        return None
    return _decode(body)


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"ack-url\0" + body, sha256)[:_MAC_BYTES]
