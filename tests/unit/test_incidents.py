"""Of messages that are given up one a minute is told of, and the others are counted."""

from __future__ import annotations

import logging

import pytest

from broker.dispatch.incidents import TOLD_S, Incidents
from broker.dispatch.lanes import Delivery
from broker.model import Message
from broker.subscription import Subscription

SUBSCRIPTION = Subscription("order", "ship", "whsec_c2VjcmV0")


def delivery(sequence: int) -> Delivery:
    """A delivery whose second attempt has failed."""
    return Delivery(Message(sequence, None, b"{}", None, 0.0), 2)


def test_messages_that_are_not_told_of_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    incidents = Incidents(lambda: now)
    with caplog.at_level(logging.WARNING):
        for sequence in range(1, 6):
            incidents.dead(SUBSCRIPTION, delivery(sequence), "no")
        incidents.blocked(SUBSCRIPTION, delivery(6), "no")
        now += TOLD_S
        incidents.dead(SUBSCRIPTION, delivery(7), "never")

    assert caplog.messages == [
        "Message 1 of order is a dead letter of ship: no.",
        "Message 6 of order blocks its key at ship: no.",
        "Message 7 of order is a dead letter of ship: never. 4 others were not told of.",
    ]
    assert [record.sequence for record in caplog.records] == [1, 6, 7]  # type: ignore[attr-defined]
