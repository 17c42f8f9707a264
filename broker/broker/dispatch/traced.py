"""Couriers whose requests become spans."""

import math
from collections.abc import Callable, Sequence

from broker.dispatch.courier_line import Sender
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Outcome
from broker.model import Message
from broker.subscription import Subscription
from broker.targets import AllowedTargets
from broker.tls import Tls
from broker.tracing import Attempt, Tracing


class TracedSender:
    """Stands between the couriers and a sender, to hear how its requests end."""

    def __init__(self, sender: Sender) -> None:
        self.attempts: dict[int, Attempt] = {}
        self._sender = sender

    @property
    def subscription(self) -> Subscription:
        """Whose requests these are."""
        return self._sender.subscription

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Hear how jobs ended."""
        for outcome in outcomes:
            if (attempt := self.attempts.pop(outcome.job, None)) is not None:
                attempt.ended(outcome.status, outcome.error)
        self._sender.ended(outcomes)

    def lost(self, job: int) -> None:
        """Hear that the job ended without an outcome."""
        if (attempt := self.attempts.pop(job, None)) is not None:
            attempt.lost()
        self._sender.lost(job)


class TracedCouriers(Couriers):
    """Couriers; attempts at messages that carry a trace are part of it."""

    def __init__(
        self,
        targets: AllowedTargets,
        tls: Tls,
        inherited: int | None,
        tracing: Tracing,
        may_send_until: Callable[[], float] = lambda: math.inf,
        count: int = 1,
    ) -> None:
        super().__init__(targets, tls, inherited, may_send_until, count)
        self._tracing = tracing

    def send(
        self,
        sender: Sender,
        endpoint: int,
        requests: Sequence[tuple[int, list[Message], list[str]]],
    ) -> list[int]:
        """Have requests made, with the trace's headers; return their job ids."""
        subscription = sender.subscription
        attempts = [
            self._tracing.attempt(
                subscription.topic,
                subscription.name,
                number,
                [message.attributes for message in messages],
            )
            for number, messages, _ in requests
        ]
        if not any(attempts):
            return super().send(sender, endpoint, requests)
        traced = TracedSender(sender)
        with_headers = [
            (number, messages, headers if attempt is None else [*headers, *attempt.headers])
            for (number, messages, headers), attempt in zip(requests, attempts, strict=True)
        ]
        jobs = super().send(traced, endpoint, with_headers)
        for job, attempt in zip(jobs, attempts, strict=True):
            if attempt is not None:
                traced.attempts[job] = attempt
        return jobs
