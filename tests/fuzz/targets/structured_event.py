"""The body of a publish request in structured mode, by both readers, and as a batch of one."""

from __future__ import annotations

import msgspec

from broker.cloudevents import _careful_message, attributes_of, read_batch, read_structured
from broker.errors import BrokerError, Fault
from broker.model import NewMessage
from fuzz.events import check_refusal, check_taken

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check(data: bytes) -> None:
    """Read an event; what one reader takes, the careful one takes too, and finds it the same."""
    try:
        message = read_structured(data, None)
    except BrokerError as refusal:
        check_refusal(refusal)
        _check_refused_in_a_batch(data)
        return
    check_taken(message)
    assert _told(_carefully(data)) == _told(message)
    (alone,) = read_batch(b"[%s]" % data)
    assert _told(alone) == _told(message)


def _carefully(data: bytes) -> NewMessage:
    faults: list[Fault] = []
    message = _careful_message(_members(data), None, "", faults)
    assert message is not None, faults
    return message


def _check_refused_in_a_batch(data: bytes) -> None:
    try:
        found = read_batch(b"[%s]" % data)
    except BrokerError as refusal:
        check_refusal(refusal)
    else:
        assert len(found) != 1, "a batch takes what is refused alone"


def _told(message: NewMessage) -> object:
    return (
        attributes_of(message.attributes),
        message.data,
        message.key,
        message.deliver_at,
        message.fingerprint,
    )
