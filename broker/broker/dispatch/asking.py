"""Asking an endpoint for its consent, until it has given it."""

from collections.abc import Callable, Sequence

from broker.consent import (
    Agreement,
    ConsentState,
    NoConsent,
    Question,
    covers,
    judge,
    pause_s,
    requests_a_minute,
)
from broker.dispatch import incidents
from broker.dispatch.couriers import Couriers
from broker.dispatch.endpoint import question_lines
from broker.dispatch.frames import Outcome
from broker.dispatch.policy import hold_s
from broker.rate import RateLimit
from broker.subscription import Subscription


class Asking:
    """Asks one subscription's endpoint, where the subscription wants its consent.

    `granted` says whether deliveries may be sent, `allowed` how many requests; `reason` says why
    not. `agreed` is called with what the endpoint has agreed to, `ring` when there is an answer.
    """

    def __init__(
        self,
        subscription: Subscription,
        couriers: Couriers,
        id_: int,
        origin: str,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        agreed: Callable[[Agreement], None],
        ring: Callable[[], None],
    ) -> None:
        self._couriers = couriers
        self._id = id_
        self._origin = origin
        self._now = now
        self._monotonic = monotonic
        self._agreed = agreed
        self._ring = ring
        self.subscription = subscription
        self.granted = False
        self.allowed = RateLimit(None)
        self.reason: str | None = None
        self._refused = False
        self._question: Question | None = None
        self._job: int | None = None
        self._asked = 0
        self._ask_at = 0.0
        self.use(subscription)

    def use(self, subscription: Subscription) -> None:
        """Take a configuration; ask at once where it brings a question, or the end of a pause."""
        before, self.subscription = self.subscription, subscription
        question, agreement = self._question_of(subscription), subscription.agreement
        self.granted = question is None or covers(agreement, question)
        bound = agreement.allowed_rate if self.granted and agreement is not None else None
        rate = None if bound is None or question is None else bound / 60
        if rate != self.allowed.rate:
            self.allowed = RateLimit(rate)
        resumed = before.paused and not subscription.paused
        if self.granted or resumed or question != self._question:
            self._begin_anew()
        self._question = question

    def _question_of(self, subscription: Subscription) -> Question | None:
        if subscription.endpoint is None or subscription.consent == "off":
            return None
        return Question(
            subscription.endpoint,
            self._origin,
            requests_a_minute(subscription.rate_limit),
            required=subscription.consent == "required",
        )

    def _begin_anew(self) -> None:
        self.reason = None
        self._refused = False
        self._job = None  # what is still to be answered was another question
        self._asked = 0
        self._ask_at = 0.0

    @property
    def state(self) -> ConsentState | None:
        """How the endpoint stands to being sent to; None where it is not to be asked."""
        if self._question is None:
            return None
        agreement = self.subscription.agreement
        if self.granted and agreement is not None:
            return "agreed" if agreement.supported else "unsupported"
        return "refused" if self._refused else "awaited"

    def ask_when_due(self) -> None:
        """Have the endpoint asked, if it is time to."""
        question = self._question
        if question is None or not self._waits() or self._ask_at > self._monotonic():
            return
        self._asked += 1
        lines = question_lines(self.subscription, question)
        self._job = self._couriers.ask(self, self._id, lines)

    def until_next(self) -> float | None:
        """Return in how many seconds the endpoint is asked again; None: not by itself."""
        return self._ask_at - self._monotonic() if self._waits() else None

    def _waits(self) -> bool:
        return not (self.granted or self.subscription.paused or self._job is not None)

    # -- what the couriers tell --------------------------------------------------------------------

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Hear the endpoint's answer."""
        for outcome in outcomes:
            self._answered(outcome)

    def _answered(self, outcome: Outcome) -> None:
        question = self._question
        if outcome.job != self._job or question is None:
            return
        self._job = None
        self._ring()
        found = judge(question, outcome.status, outcome.headers or {}, outcome.error)
        if isinstance(found, Agreement):
            incidents.consent_given(self.subscription, found)
            self._agreed(found)
        else:
            self._wait_after(found, outcome)

    def _wait_after(self, found: NoConsent, outcome: Outcome) -> None:
        wait_s = max(pause_s(self._asked), hold_s(outcome, self._now()))
        self._ask_at = self._monotonic() + wait_s
        if found.reason != self.reason:
            incidents.consent_missing(self.subscription, found.reason)
        self.reason, self._refused = found.reason, found.refused

    def lost(self, job: int) -> None:
        """Hear that the endpoint may not have been asked: the courier is gone."""
        if job == self._job:
            self._job = None
            self._ring()
