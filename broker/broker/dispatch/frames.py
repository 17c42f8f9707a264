"""What worker and courier say to each other: length-prefixed msgpack over a socket pair."""

import struct
from collections.abc import Iterator
from typing import TypeAlias

import msgspec
from msgspec import Struct

from broker.model import Message
from broker.tls import Tls

MAX_ANSWER_BYTES = 1024


class Introduction(Struct, frozen=True):
    """What the worker tells a courier at its start."""

    allowed_targets: list[str]
    user_agent: str
    tls: Tls
    may_send_until: float | None = None  # None is for ever


class Endpoint(Struct, frozen=True, array_like=True, tag="endpoint"):
    """Where and how a subscription's requests are sent. Sent anew whenever it changes.

    `keys` sign each request, the newest first; `old_keys_until` is when all but the first of them
    stop, in Unix seconds. `headers` are complete lines. `once` means that no request of it may ever
    be sent twice, not even where the connection broke before the answer.
    """

    id: int
    url: str
    format: str
    keys: list[bytes]
    old_keys_until: list[float]
    timeout_ms: int
    headers: list[str]
    webhook_id_prefix: str
    once: bool = False


class Job(Struct, frozen=True, array_like=True, gc=False):
    """One request to make. `attempt` is 1 for the first; `headers` are lines of its own."""

    id: int
    endpoint: int
    attempt: int
    messages: list[Message]
    headers: list[str] = []


class Jobs(Struct, frozen=True, array_like=True, tag="jobs"):
    """Requests to make, in order."""

    jobs: list[Job]


class Ask(Struct, frozen=True, array_like=True, tag="ask"):
    """An endpoint to ask for its consent, with these header lines. Answered as a job is."""

    id: int
    endpoint: int
    headers: list[str]


class Forget(Struct, frozen=True, array_like=True, tag="forget"):
    """An endpoint that will get no more jobs."""

    id: int


class Until(Struct, frozen=True, array_like=True, tag="until"):
    """When to begin no more requests, in boot_time, unless another of these comes."""

    time: float


class Outcome(Struct, frozen=True, array_like=True, gc=False):
    """How a request ended. `status` is 0 where no answer came, and `error` then says why.

    `headers` has the answer's Retry-After and Webhook-… headers, in lower case; `body` its first
    KiB, more of it where a batch's answer may single out positions.
    """

    job: int
    status: int
    error: str = ""
    duration_ms: int = 0
    headers: dict[str, str] | None = None
    body: bytes = b""


ToCourier: TypeAlias = Endpoint | Jobs | Ask | Forget | Until

_encode_into = msgspec.msgpack.Encoder().encode_into
decode_for_courier = msgspec.msgpack.Decoder(ToCourier).decode
decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode

_LENGTH = struct.Struct("<I")


def framed(value: object) -> bytearray:
    """Encode one frame."""
    frame = bytearray(_LENGTH.size)
    _encode_into(value, frame, _LENGTH.size)
    _LENGTH.pack_into(frame, 0, len(frame) - _LENGTH.size)
    return frame


def split(buffer: bytearray) -> Iterator[bytes]:
    """Take every complete frame's body off the front of a buffer."""
    start, end = 0, len(buffer)
    while end - start >= 4:
        (length,) = _LENGTH.unpack_from(buffer, start)
        if end - start - 4 < length:
            break
        yield bytes(memoryview(buffer)[start + 4 : start + 4 + length])
        start += 4 + length
    del buffer[:start]
