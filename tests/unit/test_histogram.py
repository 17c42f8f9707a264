"""Histograms count by upper bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.histogram import SECONDS, Histogram


@given(st.lists(st.floats(0, 1e5)))
def test_every_value_is_counted_below_each_bound_it_does_not_pass(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)

    counted = dict(histogram.cumulated())
    assert counted.pop("+Inf") == len(values)
    assert counted == {str(b): float(sum(value <= b for value in values)) for b in SECONDS}
    assert histogram.sum == sum(values)
