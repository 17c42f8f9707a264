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
RECEIPTS = frozenset({"processed", "duplicate"})
NO_RECEIPT = "no_receipt"


@dataclass(frozen=True, slots=True)
class Ack:
    """The endpoint took it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt is due at `due_at`, in Unix seconds, after one that met `error`."""

    due_at: float
    error: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt by itself: a dead letter, or a blocked delivery.

    `error` is what the last attempt met; `attempts`, where given, is how many were all it gets.
    """

    error: str
    attempts: int | None = None

    @property
    def reason(self) -> str:
        """Say why there is no further attempt."""
        if self.attempts is None:
            return self.error
        return f"{self.error}; given up after {self.attempts} attempts"


@dataclass(frozen=True, slots=True)
class Later:
    """The endpoint has it and will answer at the ack URL."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The endpoint wants nothing more: pause the subscription, for the reason told."""

    reason: str


Decision: TypeAlias = Ack | Retry | GiveUp | Later | Gone
ACK = Ack()


@dataclass(frozen=True, slots=True)
class Terms:
    """What of a subscription's configuration decides: a receipt is needed, `later` is allowed."""

    retry: RetryPolicy
    needs_receipt: bool = False
    allow_later: bool = False


def succeeded(outcome: Outcome) -> bool:
    """Say whether the endpoint answered 2xx; a verdict or a missing receipt may still undo it."""
    return 200 <= outcome.status < 300


def counts_for_circuit(outcome: Outcome) -> bool:
    """Say whether this outcome tells of an endpoint that is down or overloaded."""
    return outcome.status == 0 or outcome.status == 429 or outcome.status >= 500


def decide(
    outcome: Outcome, attempt: int, terms: Terms, now: float, random: Callable[[], float]
) -> Decision:
    """Say what becomes of a delivery whose `attempt`, counted from 1, ended so."""
    wait_s = hold_s(outcome, now)
    if succeeded(outcome):
        decision = _verdict(outcome, terms)
        if not isinstance(decision, str):
            return decision
        reason = decision
        wait_s = retry_after_s(outcome, now)
    else:
        reason = reason_of(outcome)
        if outcome.status == 410:
            return Gone(reason)
        if outcome.status in PERMANENT:
            return GiveUp(reason)
    return again(reason, attempt, terms.retry, wait_s, now, random)


def again(
    reason: str,
    attempt: int,
    retry: RetryPolicy,
    wait_s: float,
    now: float,
    random: Callable[[], float],
) -> Retry | GiveUp:
    """Schedule the attempt after a failed one, `wait_s` away at least, if there is one left."""
    if retry.max_attempts and attempt >= retry.max_attempts:
        return GiveUp(reason, attempt)
    backoff = backoff_s(attempt, retry.min_backoff_s, retry.max_backoff_s, random)
    return Retry(now + max(backoff, wait_s), reason)


def _verdict(outcome: Outcome, terms: Terms) -> Decision | str:
    """Read a 2xx: a decision, or why it is a failed attempt all the same."""
    headers = outcome.headers or {}
    verdict = headers.get("webhook-verdict", "ack").strip().lower()
    if verdict == "dead-letter":
        return GiveUp("the endpoint asked for a dead letter")
    if verdict == "later":
        return Later() if terms.allow_later else "the endpoint answered later, which is not allowed"
    if verdict == "retry":
        return "the endpoint asked for a retry"
    if verdict != "ack":
        return f"the endpoint answered an unknown verdict: {verdict[:40]}"
    receipt = headers.get("webhook-receipt", "").strip().lower()
    return NO_RECEIPT if terms.needs_receipt and receipt not in RECEIPTS else ACK


def hold_s(outcome: Outcome, now: float) -> float:
    """Return for how many seconds an overloaded endpoint asks to be left alone, at most a day."""
    return retry_after_s(outcome, now) if outcome.status in {429, 503} else 0.0


def retry_after_s(outcome: Outcome, now: float) -> float:
    """Return the seconds that Retry-After asks for (RFC 9110, section 10.2.3), at most a day."""
    asked = (outcome.headers or {}).get("retry-after", "")
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
