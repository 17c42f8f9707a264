"""What becomes of a delivery after one attempt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cloudevents import parse_time
from broker.dispatch.frames import Outcome
from broker.dispatch.policy import (
    ACK,
    MAX_HOLD_S,
    NO_RECEIPT,
    PERMANENT,
    GiveUp,
    Gone,
    Later,
    Retry,
    Terms,
    counts_for_circuit,
    decide,
    hold_s,
    reason_of,
    succeeded,
)
from broker.subscription import RetryPolicy

POLICY = RetryPolicy(max_attempts=3, min_backoff_s=1, max_backoff_s=60)
TERMS = Terms(POLICY)
NOW = 1_000_000.0

no_answer = st.builds(lambda error: Outcome(1, 0, error), st.text(min_size=1, max_size=9))
answers = st.builds(lambda status: Outcome(1, status), st.integers(100, 599))

failures = answers.filter(lambda each: not succeeded(each) and each.status != 410)


def asked(value: str, status: int = 503) -> Outcome:
    return Outcome(1, status, headers={"retry-after": value})


@given(st.integers(200, 299), st.integers(1, 2000))
def test_2xx_is_an_ack_whatever_the_attempt(status: int, attempt: int) -> None:
    assert decide(Outcome(1, status), attempt, TERMS, NOW, lambda: 0.5) is ACK


@given(no_answer | answers.filter(lambda outcome: not succeeded(outcome)), st.integers(1, 2))
def test_other_outcome_is_a_retry_or_permanent(outcome: Outcome, attempt: int) -> None:
    decision = decide(outcome, attempt, TERMS, NOW, lambda: 0.5)
    if outcome.status == 410:
        assert decision == Gone(reason_of(outcome))
    elif outcome.status in {413, 415, 422}:
        assert decision == GiveUp(reason_of(outcome))
    else:
        assert decision == Retry(NOW + 0.5 * 2 ** (attempt - 1), reason_of(outcome))


@given(no_answer | failures, st.integers(3, 2000))
def test_last_attempt_that_fails_is_a_dead_letter(outcome: Outcome, attempt: int) -> None:
    decision = decide(outcome, attempt, TERMS, NOW, lambda: 0.5)
    assert isinstance(decision, GiveUp)
    assert reason_of(outcome) in decision.reason
    if outcome.status not in PERMANENT:
        assert f"after {attempt} attempts" in decision.reason


@given(st.integers(1, 10**6))
def test_no_limit_means_retries_for_ever(attempt: int) -> None:
    forever = Terms(RetryPolicy(0, 1, 60))
    assert isinstance(decide(Outcome(1, 500), attempt, forever, NOW, lambda: 0.9), Retry)


def test_400_is_retried() -> None:
    assert isinstance(decide(Outcome(1, 400), 1, TERMS, NOW, lambda: 0.9), Retry)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_the_least_wait(status: int) -> None:
    for value, wait_s in (("7", 7), ("0", 0.5)):
        decision = decide(asked(value, status), 1, TERMS, NOW, lambda: 0.5)
        assert decision == Retry(NOW + wait_s, f"the endpoint answered {status}")


@pytest.mark.parametrize("status", [0, 400, 408, 500, 502])
def test_retry_after_of_another_answer_is_not_obeyed(status: int) -> None:
    assert hold_s(asked("60", status), NOW) == 0


@pytest.fixture
def far_away() -> Iterator[None]:
    """Live where the clock is not UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0),
        ("120", 120),
        ("86401", MAX_HOLD_S),
        ("9" * 400, MAX_HOLD_S),
        ("Sat, 31 Jan 2026 12:00:10 GMT", 10),
        ("Saturday, 31-Jan-26 12:00:10 GMT", 10),
        ("Sat Jan 31 12:00:10 2026", 10),
        ("Sat, 31 Jan 2026 11:59:00 GMT", 0),
        ("Sat, 31 Jan 2099 12:00:00 GMT", MAX_HOLD_S),
        ("", 0),
        ("-1", 0),
        ("1.5", 0),
        ("\xb2", 0),
        ("soon", 0),
        ("Sat, 31 Jan 2026 12:00:10 +9999999999999999999999", 0),
        ("Sat, 31 Jan 99999999999999999999 12:00:10 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(value: str, wait_s: float) -> None:
    now = parse_time("2026-01-31T12:00:00Z")
    assert now is not None
    assert hold_s(asked(value), now) == wait_s


@given(st.text(max_size=30) | st.datetimes(timezones=st.just(UTC)).map(format_datetime))
def test_any_retry_after_gives_a_wait(value: str) -> None:
    assert 0 <= hold_s(asked(value), NOW) <= MAX_HOLD_S


@given(st.integers(0, int(MAX_HOLD_S)))
def test_date_gives_the_wait_until_then(wait_s: int) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + wait_s, UTC), usegmt=True)
    assert hold_s(asked(date), NOW) == wait_s


def test_reason_is_the_status_or_the_error() -> None:
    assert reason_of(Outcome(1, 502)) == "the endpoint answered 502"
    assert reason_of(Outcome(1, 0, "the TLS handshake failed")) == "the TLS handshake failed"


def verdict(name: str, **headers: str) -> Outcome:
    return Outcome(1, 200, headers={"webhook-verdict": name, **headers})


def test_verdicts_undo_a_2xx() -> None:
    assert decide(verdict("ACK "), 1, TERMS, NOW, lambda: 0.5) is ACK
    assert isinstance(decide(verdict("dead-letter"), 1, TERMS, NOW, lambda: 0.5), GiveUp)
    assert isinstance(decide(verdict("what"), 1, TERMS, NOW, lambda: 0.5), Retry)
    again = decide(verdict("retry", **{"retry-after": "9"}), 1, TERMS, NOW, lambda: 0.5)
    assert again == Retry(NOW + 9, "the endpoint asked for a retry")
    assert isinstance(decide(verdict("retry"), 3, TERMS, NOW, lambda: 0.5), GiveUp)


def test_retry_after_of_a_verdict_holds_only_its_delivery() -> None:
    assert hold_s(verdict("retry", **{"retry-after": "9"}), NOW) == 0


def test_later_is_a_failed_attempt_where_it_is_not_allowed() -> None:
    assert isinstance(decide(verdict("later"), 1, TERMS, NOW, lambda: 0.5), Retry)
    allowed = Terms(POLICY, allow_later=True)
    assert decide(verdict("later"), 1, allowed, NOW, lambda: 0.5) == Later()


@pytest.mark.parametrize("receipt", [None, "", "done", "processed", "Duplicate"])
def test_exactly_once_needs_a_receipt(receipt: str | None) -> None:
    headers = None if receipt is None else {"webhook-receipt": receipt}
    terms = Terms(POLICY, needs_receipt=True)
    decision = decide(Outcome(1, 200, headers=headers), 1, terms, NOW, lambda: 0.5)
    if receipt in {"processed", "Duplicate"}:
        assert decision is ACK
    else:
        assert isinstance(decision, Retry)
        assert decision.error == NO_RECEIPT


@given(no_answer | answers)
def test_only_an_endpoint_that_is_down_or_overloaded_counts_for_the_circuit(
    outcome: Outcome,
) -> None:
    expected = outcome.status in {0, 429} or outcome.status >= 500
    assert counts_for_circuit(outcome) == expected
