"""What happens to a delivery: recorded and handled in one transaction, and what is answered."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from broker_client.delivery import Delivery
from broker_client.inbox import Inbox
from broker_client.verdicts import DeadLetter, Retry, Verdict

Kind = Literal["processed", "duplicate", "retry", "dead-letter", "failed"]

logger = logging.getLogger("broker_client.reception")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one delivery; `after_s` and `reason` come from a handler's verdict."""

    kind: Kind
    after_s: float | None = None
    reason: str | None = None

    @property
    def done(self) -> bool:
        """Say whether the event's effects are committed, now or before."""
        return self.kind in ("processed", "duplicate")


@dataclass(frozen=True, slots=True)
class Reception:
    """Takes in the deliveries of one subscription.

    `handle` runs with the delivery and what `transaction` gives; its effects, and the inbox's
    record of the event under `consumer`, are committed together or not at all.
    """

    inbox: Inbox
    consumer: str
    transaction: Callable[[], AbstractContextManager[Any]]
    handle: Callable[[Delivery, Any], None]

    def take(self, delivery: Delivery) -> Outcome:
        """Handle one delivery unless it was handled before; never raises."""
        try:
            return self._in_transaction(delivery)
        except Verdict as verdict:
            return _on_verdict(delivery, verdict)
        except Exception:
            logger.exception(
                "Event %s of topic %s was not handled, nothing of it is committed",
                delivery.event.id,
                delivery.topic,
                extra={"action": "failed", "event_id": delivery.event.id},
            )
            return Outcome("failed")

    def take_batch(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Handle deliveries in order; after one that is not done, none of its key is tried."""
        outcomes: list[Outcome] = []
        held: set[str] = set()
        for delivery in deliveries:
            key = delivery.event.partitionkey
            outcome = Outcome("retry") if key in held else self.take(delivery)
            outcomes.append(outcome)
            if not outcome.done and key is not None:
                held.add(key)
        return outcomes

    def _in_transaction(self, delivery: Delivery) -> Outcome:
        with self.transaction() as session:
            if not self.inbox.record(session, delivery.event, consumer=self.consumer):
                return Outcome("duplicate")
            self.handle(delivery, session)
        return Outcome("processed")


def _on_verdict(delivery: Delivery, verdict: Verdict) -> Outcome:
    logger.info(
        "Event %s of topic %s: %s",
        delivery.event.id,
        delivery.topic,
        verdict,
        extra={"action": verdict.name, "event_id": delivery.event.id},
    )
    if isinstance(verdict, DeadLetter):
        return Outcome("dead-letter", reason=verdict.reason)
    return Outcome("retry", after_s=verdict.after_s if isinstance(verdict, Retry) else None)
