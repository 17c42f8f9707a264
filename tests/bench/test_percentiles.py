"""Percentiles are values that were measured, by nearest rank."""

import pytest
from bench.percentiles import Spread, percentile, spread_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1.0, 100)]
)
def test_percentile_of_one_to_a_hundred(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


@given(values=st.lists(st.integers(), min_size=1), share=st.floats(0, 1))
def test_percentile_covers_its_share(values: list[int], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_spread_is_in_milliseconds() -> None:
    assert spread_of([3_000_000, 1_000_000, 2_000_000]) == Spread(2.0, 3.0, 3.0)
