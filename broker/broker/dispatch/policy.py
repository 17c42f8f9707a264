"""What becomes of a delivery after one attempt."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from broker.backoff import backoff_s
from broker.dispatch.frames import Outcome
from broker.subscription import RetryPolicy

MAX_HOLD_S = 86400.0
PERMANENT = frozenset({413, 415, 422})


@dataclass(frozen=True, slots=True)
class Ack:
    """The endpoint took it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt is due at `due_at`, in Unix seconds."""

    due_at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Given up, for the reason told."""

    reason: str


Decision: TypeAlias = Ack | Retry | Dead
ACK = Ack()


def succeeded(outcome: Outcome) -> bool:
    """Say whether an endpoint took what it was sent."""
    return 200 <= outcome.status < 300


def decide(
    outcome: Outcome,
    attempt: int,
    policy: RetryPolicy,
    now: float,
    random: Callable[[], float],
) -> Decision:
    """Say what becomes of a delivery whose `attempt`, counted from 1, ended so."""
    if succeeded(outcome):
        return ACK
    reason = reason_of(outcome)
    if outcome.status in PERMANENT:
        return Dead(reason)
    if policy.max_attempts and attempt >= policy.max_attempts:
        return Dead(f"{reason}; given up after {attempt} attempts")
    wait_s = backoff_s(attempt, policy.min_backoff_s, policy.max_backoff_s, random)
    return Retry(now + max(wait_s, hold_s(outcome, now)), reason)


def hold_s(outcome: Outcome, now: float) -> float:
    """Return for how many seconds an overloaded endpoint asks to be left alone, at most a day."""
    if outcome.status not in {429, 503} or not outcome.headers:
        return 0.0
    asked = outcome.headers.get("retry-after", "")
    if asked.isascii() and asked.isdigit():
        wait_s = float(asked)
    else:
        try:
            until = parsedate_to_datetime(asked)
        except (ValueError, OverflowError):
            return 0.0
        # HTTP's dates are in GMT, also those of the old form that does not say so.
        wait_s = until.replace(tzinfo=until.tzinfo or UTC).timestamp() - now
    return min(max(wait_s, 0.0), MAX_HOLD_S)


def reason_of(outcome: Outcome) -> str:
    """Say in a few words why an attempt failed."""
    return f"the endpoint answered {outcome.status}" if outcome.status else outcome.error
