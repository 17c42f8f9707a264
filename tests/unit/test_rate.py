"""The rate limit: never more than the rate and a burst, never less than the rate."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dispatch.rate import BURST_S, RateLimit


def test_no_rate_is_no_limit() -> None:
    limit = RateLimit(None)
    assert limit.available(0) == inf
    limit.take(10**6)
    assert limit.until_next(0) == 0


@given(
    rate=st.floats(0.01, 10_000),
    waits=st.lists(st.floats(0, 3), max_size=50),
)
def test_any_span_lets_through_the_rate_and_one_burst_at_most(
    rate: float, waits: list[float]
) -> None:
    limit, now, sent = RateLimit(rate), 0.0, 0
    for wait_s in [0.0, *waits]:
        now += wait_s
        count = int(limit.available(now))
        limit.take(count)
        sent += count
        assert sent <= max(1.0, rate * BURST_S) + rate * now + 1e-6


@pytest.mark.parametrize("rate", [0.5, 7, 1000])
def test_who_waits_as_told_gets_the_whole_rate(rate: float) -> None:
    limit, now = RateLimit(rate), 0.0
    for _ in range(100):
        wait_s = limit.until_next(now)
        now += wait_s + 1e-9
        assert limit.available(now) >= 1
        limit.take(1)
    assert now <= 100 / rate + 1e-3


def test_what_was_taken_beyond_the_tokens_delays_what_comes_after() -> None:
    limit = RateLimit(10)
    assert limit.available(0) == 1
    limit.take(11)
    assert limit.until_next(0) == pytest.approx(1.1)
    assert limit.available(1) == 0
    assert limit.available(1.101) == 1
