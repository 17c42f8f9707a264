"""What counts as growth: a slope that lasts, and not a saw's teeth or one high value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soak.judgement import FEWEST, MIB, Growth, growths, slope
from soak.samples import MEASURES, Sample

LEVEL = Sample(0.0, 200 * MIB, 300 * MIB, 60, 12, 100 * MIB, 20 * MIB, 0.0)
MINUTES = 30


def samples(change: Callable[[int, Sample], Sample], count: int = 180) -> list[Sample]:
    """Make a run's samples, ten seconds apart, each changed by its number."""
    return [change(n, replace(LEVEL, at_s=10.0 * n)) for n in range(count)]


def growing(found: list[Growth]) -> set[str]:
    return {growth.measure for growth in found if not growth.flat}


def test_level_run_is_flat_in_everything() -> None:
    found = growths(samples(lambda _, sample: sample))

    assert [growth.measure for growth in found] == list(MEASURES)
    assert growing(found) == set()
    assert {growth.grew for growth in found} == {0.0}


@pytest.mark.parametrize(
    ("measure", "an_hour"),
    [
        ("pss", 60 * MIB),
        ("rss", 80 * MIB),
        ("descriptors", 20),
        ("threads", 12),
        ("file", 40 * MIB),
        ("wal", 200 * MIB),
    ],
)
def test_slow_leak_is_found_and_named(measure: str, an_hour: float) -> None:
    def leak(n: int, sample: Sample) -> Sample:
        more = int(an_hour * sample.at_s / 3600)
        return replace(sample, **{measure: getattr(sample, measure) + more})

    assert growing(growths(samples(leak))) == {measure}


def test_what_grows_in_the_first_half_only_is_a_start() -> None:
    def start(n: int, sample: Sample) -> Sample:
        return replace(sample, file=min(n, 85) * MIB, pss=min(n, 85) * 3 * MIB)

    assert growing(growths(samples(start))) == set()


def test_teeth_of_a_saw_are_no_growth() -> None:
    def tooth(n: int, sample: Sample) -> Sample:
        return replace(sample, wal=(n % 13) * 5 * MIB, pss=sample.pss + (n % 7) * MIB)

    assert growing(growths(samples(tooth))) == set()


def test_log_may_go_up_to_its_bound_and_not_beyond() -> None:
    def rise(n: int, sample: Sample) -> Sample:
        return replace(sample, wal=20 * MIB + n * MIB // 4)

    assert growing(growths(samples(rise))) == set()
    assert growing(growths(samples(rise, count=360))) == {"wal"}


def test_some_high_values_at_the_end_do_not_lead_astray() -> None:
    def peak(n: int, sample: Sample) -> Sample:
        return replace(sample, pss=sample.pss * (4 if n > 176 else 1))

    found = growths(samples(peak))
    assert growing(found) == set()
    assert found[0].highest == 4 * LEVEL.pss


def test_what_shrinks_is_flat() -> None:
    assert growing(growths(samples(lambda n, s: replace(s, pss=s.pss - n * MIB)))) == set()


@pytest.mark.parametrize("count", [0, 1, 2 * FEWEST - 2])
def test_too_few_samples_are_not_judged(count: int) -> None:
    assert growths(samples(lambda _, sample: sample, count)) == []


@given(
    st.integers(-1000, 1000),
    st.integers(-1000, 1000),
    st.lists(st.integers(0, 10_000), min_size=2, max_size=30, unique=True),
)
def test_slope_of_a_line_is_its_own(rise: int, start: int, places: list[int]) -> None:
    found = slope([(float(at), float(start + rise * at)) for at in sorted(places)])

    assert isclose(found, rise, abs_tol=1e-6)
