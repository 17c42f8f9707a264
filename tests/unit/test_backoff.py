"""Exponential backoff with full jitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.backoff import backoff_s

seconds = st.floats(0, 86400)
below_one = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10**9), seconds, seconds, below_one)
def test_wait_is_never_negative_and_never_above_the_maximum(
    failed: int, shortest: float, longest: float, drawn: float
) -> None:
    assert 0 <= backoff_s(failed, shortest, longest, lambda: drawn) <= longest


@pytest.mark.parametrize(
    ("failed", "ceiling"), [(1, 1), (2, 2), (3, 4), (10, 512), (11, 600), (65, 600), (10**6, 600)]
)
def test_ceiling_doubles_until_the_maximum(failed: int, ceiling: float) -> None:
    assert backoff_s(failed, 1, 600, lambda: 1.0) == ceiling


@given(st.integers(1, 100), below_one)
def test_jitter_covers_everything_below_the_ceiling(failed: int, drawn: float) -> None:
    ceiling = backoff_s(failed, 1, 600, lambda: 1.0)
    assert backoff_s(failed, 1, 600, lambda: drawn) == drawn * ceiling
    assert backoff_s(failed, 1, 600, lambda: 0.0) == 0


def test_no_minimum_means_no_wait() -> None:
    assert backoff_s(50, 0, 600, lambda: 0.999) == 0
