"""What a topic's retention lets go, and when the disk is too full."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.retention import exceeds, is_full, look_again_s, surplus
from broker.store.port import LogEntry, TopicStats
from broker.topic import Retention

NOW = 10_000.0
NEVER = Retention(max_age_s=None)
MIB = 1024 * 1024


def log_of(*entries: tuple[float, int], first: int = 1) -> tuple[list[LogEntry], TopicStats]:
    """Make a log of (stored_at, size)."""
    log = [LogEntry(seq, at, size) for seq, (at, size) in enumerate(entries, first)]
    size = sum(entry.size for entry in log)
    return log, TopicStats(len(log), size, first, first + len(log) - 1)


@pytest.mark.parametrize(
    ("retention", "before"),
    [
        (NEVER, None),
        (Retention(max_age_s=100), 3),
        (Retention(max_age_s=50), 3),
        (Retention(max_age_s=49.5), 4),
        (Retention(max_age_s=200), None),
        (Retention(max_age_s=1), 4),
        (Retention(max_age_s=None, max_messages=3), None),
        (Retention(max_age_s=None, max_messages=2), 2),
        (Retention(max_age_s=None, max_messages=1), 3),
        (Retention(max_age_s=None, max_bytes=60), None),
        (Retention(max_age_s=None, max_bytes=59), 2),
        (Retention(max_age_s=None, max_bytes=49), 3),
        (Retention(max_age_s=None, max_bytes=29), 4),
        (Retention(max_age_s=100, max_messages=3, max_bytes=1), 4),
    ],
)
def test_retention_lets_go_what_any_of_its_limits_asks_for(
    retention: Retention, before: int | None
) -> None:
    log, stats = log_of((NOW - 101, 10), (NOW - 101, 20), (NOW - 50, 30))

    assert surplus(log, stats, retention, NOW) == before


def test_message_behind_a_younger_one_stays_with_it() -> None:
    log, stats = log_of((NOW - 200, 1), (NOW - 10, 1), (NOW - 200, 1))

    assert surplus(log, stats, Retention(max_age_s=100), NOW) == 2


def test_empty_log_has_nothing_to_let_go() -> None:
    assert surplus([], TopicStats(0, 0, 8, 7), Retention(1, 1, 1), NOW) is None


ages = st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 1000)), max_size=30)
limits = st.none() | st.integers(1, 1500)


@given(ages, limits, limits, limits, st.integers(1, 30))
def test_nothing_more_goes_than_has_to_and_nothing_stays_that_has_to_go(
    entries: list[tuple[float, int]],
    max_age_s: int | None,
    max_bytes: int | None,
    max_messages: int | None,
    page: int,
) -> None:
    log, stats = log_of(*((NOW - age, size) for age, size in entries), first=5)
    retention = Retention(max_age_s, max_bytes, max_messages)

    def past(entry: LogEntry, left: list[LogEntry]) -> bool:
        return (
            (max_age_s is not None and NOW - entry.stored_at > max_age_s)
            or (max_messages is not None and len(left) > max_messages)
            or (max_bytes is not None and sum(each.size for each in left) > max_bytes)
        )

    left = list(log)
    removed = 0
    while left and removed < page and past(left[0], left):
        del left[0]
        removed += 1

    assert surplus(log[:page], stats, retention, NOW) == (5 + removed if removed else None)


@pytest.mark.parametrize(
    ("free", "reusable", "full"),
    [
        (256 * MIB, 0, False),
        (256 * MIB - 1, 0, True),
        (100 * MIB, 156 * MIB, False),
        (100 * MIB, 155 * MIB, True),
        (64 * MIB, 10_000 * MIB, False),
        (64 * MIB - 1, 10_000 * MIB, True),
        (0, 0, True),
    ],
)
def test_disk_is_full_when_too_little_is_left_on_it_or_within_the_store(
    free: int, reusable: int, full: bool
) -> None:
    assert is_full(free, reusable, 256 * MIB) is full


def test_disk_is_never_full_where_nothing_is_to_stay_free() -> None:
    assert not is_full(0, 0, 0)


@pytest.mark.parametrize(
    ("retention", "too_much"),
    [
        (Retention(), False),
        (Retention(max_messages=3), False),
        (Retention(max_messages=2), True),
        (Retention(max_bytes=60), False),
        (Retention(max_bytes=59), True),
        (Retention(max_messages=2, max_bytes=60), True),
    ],
)
def test_log_exceeds_what_its_retention_keeps(retention: Retention, too_much: bool) -> None:
    _, stats = log_of((0, 10), (0, 20), (0, 30))

    assert exceeds(stats, retention) is too_much


@pytest.mark.parametrize(("age_s", "wait_s"), [(1, 1), (20, 1), (200, 10), (1200, 60), (1e9, 60)])
def test_short_ages_are_looked_at_more_often(age_s: float, wait_s: float) -> None:
    assert look_again_s(age_s) == wait_s
