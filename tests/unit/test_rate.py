"""The rate limit: never more than the rate and a burst, never less than the rate."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth import ANYONE, ApiKey, Caller, Keys, PublishRateExceeded, digest_of
from broker.rate import BURST_S, RateLimit
from contract.homes import Clock


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


@given(
    rates=st.lists(st.one_of(st.none(), st.floats(0.01, 1000)), min_size=1, max_size=5),
    takes=st.integers(0, 50),
)
def test_new_rate_takes_no_debt_away(rates: list[float | None], takes: int) -> None:
    limit = RateLimit(10, burst_s=1)
    assert limit.available(0) == 10
    limit.take(10 + takes)
    for rate in rates:
        limit.change(rate)
        assert limit.rate == rate
    limit.change(10)
    assert limit.available(0) <= 0
    assert limit.until_next(0) == pytest.approx((takes + 1) / 10)


@given(
    rate=st.floats(0.01, 1000),
    asked=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 1000)), max_size=40),
)
def test_key_publishes_no_more_than_its_rate_a_burst_and_one_batch(
    rate: float, asked: list[tuple[float, int]]
) -> None:
    caller = Caller("shop", (), RateLimit(rate, burst_s=1))
    clock = Clock(0.0)
    published = largest = 0
    for wait_s, count in asked:
        clock.now += wait_s
        try:
            caller.spend(count, clock)
        except PublishRateExceeded as refused:
            wait = refused.retry_after_s or 0
            clock.now += wait + 1e-6
            caller.spend(count, clock)  # who waits as told may go on
        published, largest = published + count, max(largest, count)
        assert published <= max(1.0, rate) + rate * clock.now + largest + 1e-3


def test_who_has_no_rate_spends_nothing() -> None:
    ANYONE.spend(10**9)
    Caller("shop", (), RateLimit(None)).spend(10**9)


def test_keys_that_are_taken_anew_keep_what_was_spent() -> None:
    keys = Keys(None, on=True)
    key = ApiKey("1", "shop", (), digest_of("secret"), 0.0, publish_rate=0.01)
    keys.use([key])
    keys.caller_of(b"secret", 0).spend(1, lambda: 0.0)

    keys.use([key])

    with pytest.raises(PublishRateExceeded, match="Nothing was stored"):
        keys.caller_of(b"secret", 0).spend(1, lambda: 1.0)
