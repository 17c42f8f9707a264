"""The count: what must have come, and what may."""

from __future__ import annotations

from typing import Any

import pytest

from soak.arrivals import Arrivals
from soak.count import Count, counts
from soak.kinds import KINDS, STREAM
from soak.report import Report, to_json, to_text

ALL = {"distinct": 100, "again": 0}


def came(**changed: dict[str, int]) -> dict[str, dict[str, int]]:
    """Tell of a run in which all came, but for what is changed."""
    told = {kind.name: dict(ALL) for kind in KINDS if not kind.dead} | {STREAM: dict(ALL)}
    told["filtered"]["distinct"] = 50
    told |= {"failing": {"distinct": 98, "again": 0}, "given-up": {"distinct": 2, "again": 0}}
    return told | {name.replace("_", "-"): each for name, each in changed.items()}


def wrong(found: list[Count]) -> list[str]:
    return [count.name for count in found if not count.kept]


def test_all_that_came_is_kept() -> None:
    found = counts(100, 50, 100, came())

    assert wrong(found) == []
    assert {count.name for count in found} == {
        "the log",
        STREAM,
        *(kind.name for kind in KINDS if not kind.dead),
    }


@pytest.mark.parametrize("name", ["ok", "batched", "exactly-once", "slow", "pull", "filtered"])
def test_one_that_did_not_come_is_lost(name: str) -> None:
    told = came()
    told[name]["distinct"] -= 1

    assert wrong(counts(100, 50, 100, told)) == [name]


def test_log_with_other_than_what_was_answered_is_wrong() -> None:
    assert "the log" in wrong(counts(100, 50, 99, came()))
    assert "the log" in wrong(counts(100, 50, 101, came()))


def test_at_most_once_may_lose_and_never_comes_again() -> None:
    assert wrong(counts(100, 50, 100, came(at_most_once={"distinct": 90, "again": 0}))) == []
    again: Any = {"distinct": 90, "again": 1}
    assert wrong(counts(100, 50, 100, came(at_most_once=again))) == ["at-most-once"]


def test_arrivals_count_each_sequence_once() -> None:
    arrivals = Arrivals()

    assert [arrivals.add(n) for n in (1, 8, 1_000_000, 8, 1)] == [True, True, True, False, False]
    assert (arrivals.distinct, arrivals.again) == (3, 2)


def test_report_names_what_is_wrong() -> None:
    well = Report(1, 10, 9.9, 2, 0.5, 0, [], counts(100, 50, 100, came()), [])
    ill = Report(1, 10, 9.9, 2, 0.5, 0, [], counts(100, 50, 99, came()), [])

    assert to_text(well).endswith("Nothing grows, nothing is lost.")
    assert "WRONG" in to_text(ill)
    assert '"clean": false' in to_json(ill)
    assert not Report(1, 10, 9.9, 2, 0.5, 0, [], [], ["an error"]).clean
