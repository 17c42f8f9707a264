"""The body of a publish request in batch mode."""

from __future__ import annotations

from broker.cloudevents import MAX_BATCH_EVENTS, read_batch
from broker.errors import BrokerError
from fuzz.events import check_refusal, check_taken


def check(data: bytes) -> None:
    """Read a batch: all of it is taken, or what is refused is named by its position."""
    try:
        messages = read_batch(data)
    except BrokerError as refusal:
        check_refusal(refusal)
        assert all(f.field == "events" or f.field[0] == "[" for f in refusal.faults)
        return
    assert 1 <= len(messages) <= MAX_BATCH_EVENTS
    for message in messages[:3]:
        check_taken(message)
