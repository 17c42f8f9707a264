"""A publish request in binary mode, or of whatever mode its Content-Type says: head and body."""

from __future__ import annotations

from broker.api.publish import _key_in
from broker.cloudevents import mode_of, read_batch, read_binary, read_structured
from broker.errors import BrokerError
from broker.model import NewMessage
from fuzz.events import NOW, TOPIC, check_refusal, check_taken, new_id
from fuzz.inputs import as_sent, head_and_body


def check(data: bytes) -> None:
    """Read a request as a publish does."""
    lines, body = head_and_body(data)
    headers = as_sent(lines)
    try:
        messages = _read(headers, body)
    except BrokerError as refusal:
        check_refusal(refusal)
        return
    for message in messages:
        check_taken(message)


def _read(headers: list[tuple[bytes, bytes]], body: bytes) -> list[NewMessage]:
    content_type = key = None
    for name, value in headers:
        if name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"idempotency-key":
            key = _key_in(value)
    match mode_of(content_type or ""):
        case "batch":
            return read_batch(body)
        case "structured":
            return [read_structured(body, key)]
        case "binary":
            return [read_binary(TOPIC, headers, body, key, new_id, NOW)]
