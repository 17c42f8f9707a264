"""What happens to a delivery: recorded and handled in one transaction, and what is answered."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event as Flag
from typing import Any, Literal

from broker_client.delivery import Delivery
from broker_client.inbox import Inbox
from broker_client.tracing import processing
from broker_client.verdicts import DeadLetter, Later, Retry, Verdict

Kind = Literal["processed", "duplicate", "handled", "retry", "dead-letter", "later", "failed"]

logger = logging.getLogger("broker_client.reception")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one delivery; `after_s` and `reason` come from a handler's verdict.

    `processed` and `duplicate` say that the event is in the inbox, committed with its effects;
    `handled` that its handler has returned, without an inbox to prove it.
    """

    kind: Kind
    after_s: float | None = None
    reason: str | None = None

    @property
    def done(self) -> bool:
        """Say whether the delivery has done what it came for, now or before."""
        return self.kind in ("processed", "duplicate", "handled")


@dataclass(frozen=True, slots=True)
class Reception:
    """Takes in the deliveries of one subscription.

    `handle` runs with the delivery and what `transaction` gives; its effects, and the inbox's
    record of the event under `consumer`, are committed together or not at all. Without an inbox,
    every delivery is handled. `seen_to_commit` is set once `transaction` is known to commit, and
    shared by all that use it.
    """

    inbox: Inbox | None
    consumer: str
    transaction: Callable[[], AbstractContextManager[Any]]
    handle: Callable[[Delivery, Any], object]
    seen_to_commit: Flag = field(default_factory=Flag)

    def take(self, delivery: Delivery) -> Outcome:
        """Handle one delivery unless it was handled before; never raises."""
        with processing(delivery, self.consumer) as ended:
            outcome = self._take(delivery)
            ended(outcome.kind, done=outcome.done or outcome.kind == "later")
        return outcome

    def _take(self, delivery: Delivery) -> Outcome:
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

    def finish(self, delivery: Delivery) -> bool:
        """Handle a delivery that was answered with `Later`, and tell the broker how that ended.

        Returns False where the broker waited no longer. Raises LaterNotAllowed, BrokerRefused,
        BrokerUnavailable.
        """
        handle = delivery.ack_later()
        outcome = self.take(delivery)
        match outcome.kind:
            case "processed" | "duplicate":
                return handle.ack(outcome.kind)
            case "handled":
                return handle.ack()
            case "dead-letter":
                return handle.dead_letter()
            case "later":
                return handle.extend()
            case "retry" | "failed":
                return handle.retry(outcome.after_s)

    def _in_transaction(self, delivery: Delivery) -> Outcome:
        outcome = None
        with self.transaction() as session:
            outcome = self._recorded_and_handled(delivery, session)
        if outcome is None:
            raise RuntimeError("transaction() swallowed an exception: let it pass")
        if outcome.kind == "processed" and not self.seen_to_commit.is_set():
            self._see_the_commit(delivery)
        return outcome

    def _recorded_and_handled(self, delivery: Delivery, session: Any) -> Outcome:
        if self.inbox is None:
            self.handle(delivery, session)
            return Outcome("handled")
        if not self.inbox.record(session, delivery.event, consumer=self.consumer):
            return Outcome("duplicate")
        self.handle(delivery, session)
        return Outcome("processed")

    def _see_the_commit(self, delivery: Delivery) -> None:
        # A receipt for what was rolled back would lose it: the broker trusts receipts, and a
        # transaction that ends without a commit, such as a bare sessionmaker, raises nothing.
        if self.inbox is not None and not self.inbox.knows(delivery.event, consumer=self.consumer):
            raise RuntimeError(
                "transaction() ended without a commit in the inbox's database: "
                "give one that commits, such as sessionmaker.begin"
            )
        self.seen_to_commit.set()


def _on_verdict(delivery: Delivery, verdict: Verdict) -> Outcome:
    if isinstance(verdict, Later) and delivery.ack_url is None:
        logger.error(
            "Event %s of topic %s cannot be answered later, and is tried again: its subscription "
            "needs allow_later=True and a format other than batch",
            delivery.event.id,
            delivery.topic,
            extra={"action": "failed", "event_id": delivery.event.id},
        )
        return Outcome("failed")

    logger.info(
        "Event %s of topic %s: %s",
        delivery.event.id,
        delivery.topic,
        verdict,
        extra={"action": verdict.name, "event_id": delivery.event.id},
    )
    match verdict:
        case DeadLetter():
            return Outcome("dead-letter", reason=verdict.reason)
        case Later():
            return Outcome("later")
        case Retry():
            return Outcome("retry", after_s=verdict.after_s)
        case _:
            return Outcome("retry")
