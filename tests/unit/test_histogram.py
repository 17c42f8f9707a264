"""Histograms count by upper bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.histogram import SECONDS, Histogram


@given(st.lists(st.floats(0, 1e5) | st.sampled_from(SECONDS)))
def test_every_value_is_counted_below_each_bound_it_does_not_pass(values: list[float]) -> None:
    histogram, at_once = Histogram(), Histogram()
    for value in values:
        histogram.observe(value)
    at_once.observe_all(values)

    assert at_once.counts == histogram.counts
    assert (at_once.count, at_once.sum) == (len(values), sum(values))
    counted = dict(histogram.cumulated())
    assert counted.pop("+Inf") == len(values)
    assert counted == {str(b): float(sum(value <= b for value in values)) for b in SECONDS}
    assert histogram.sum == sum(values)
