"""The ledger: what the receiver has answered for is there after a kill, and its effects once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.ledger import Arrival, Ledger
from broker_client import Event

ARRIVAL = Arrival(1, "t", "exactly-once", "a", "k", 1, 1, took=True, acknowledged=True)
EVENT = Event(type="audit", source="/audit", id="a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "receiver.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """A new ledger."""
    with closing(Ledger(path)) as opened:
        yield opened


def test_what_was_written_is_read_by_another_at_once(ledger: Ledger, path: Path) -> None:
    late = replace(ARRIVAL, request=2, took=False, acknowledged=False)
    ledger.write([ARRIVAL], [EVENT])
    ledger.write([late], [EVENT])
    ledger.complain("what is this?")

    with closing(Ledger(path)) as other:
        assert other.arrivals("t", "exactly-once") == [ARRIVAL, late]
        assert other.arrivals("t", "by-key") == []
        assert other.complaints() == ["what is this?"]
        assert other.next_request() == 3


def test_repeat_has_no_effect_where_receipts_are_asked_for(ledger: Ledger) -> None:
    assert ledger.write([ARRIVAL], [EVENT])
    assert not ledger.write([ARRIVAL], [EVENT])

    assert ledger.effects("t", "exactly-once") == ["a"]
    assert ledger.arrival_count() == 2


def test_moment_of_each_arrival_is_kept(ledger: Ledger) -> None:
    before = time.time()
    ledger.write([ARRIVAL], [EVENT])

    (at,) = ledger.times("t", before - 1)
    assert before - 1 < at <= time.time() + 1
    assert ledger.times("t", at) == []
    assert ledger.times("other", before - 1) == []


@pytest.mark.parametrize("other", [{"subscription": "exactly-once-batched"}, {"topic": "other"}])
def test_each_subscription_of_each_topic_has_effects_of_its_own(
    ledger: Ledger, other: dict[str, Any]
) -> None:
    elsewhere = replace(ARRIVAL, **other)

    assert ledger.write([ARRIVAL], [EVENT])
    assert ledger.write([elsewhere], [EVENT])
    assert ledger.arrivals("t", "exactly-once") == [ARRIVAL]
    assert ledger.effects(elsewhere.topic, elsewhere.subscription) == ["a"]


def test_what_is_not_taken_has_no_effect(ledger: Ledger) -> None:
    assert not ledger.write([replace(ARRIVAL, took=False)], [EVENT])
    assert ledger.effects("t", "exactly-once") == []
