"""What the log tells of deliveries: that an endpoint is down or back, that a message is given up.

A failed attempt that will be repeated is no incident: the delivery's own history has it.
"""

import logging
from collections.abc import Callable
from math import inf

from broker.consent import Agreement
from broker.dispatch.lanes import Delivery
from broker.subscription import Subscription

log = logging.getLogger("broker.deliveries")

TOLD_S = 60.0
"""How long after one message that is given up the next is not told of, but counted."""


def endpoint_down(subscription: Subscription, error: str) -> None:
    """Tell that an endpoint is left alone, but for a probe now and then."""
    log.warning(
        "The endpoint of %s/%s keeps failing (%s); it is only tried now and then.",
        subscription.topic,
        subscription.name,
        error,
        extra={**_of(subscription), "action": "circuit_opened"},
    )


def endpoint_back(subscription: Subscription) -> None:
    """Tell that an endpoint answers again."""
    log.info(
        "The endpoint of %s/%s answers again.",
        subscription.topic,
        subscription.name,
        extra={**_of(subscription), "action": "circuit_closed"},
    )


def endpoint_replaced(subscription: Subscription) -> None:
    """Tell that an endpoint that was down is not the subscription's any more."""
    log.info(
        "%s/%s has another endpoint now.",
        subscription.topic,
        subscription.name,
        extra={**_of(subscription), "action": "circuit_closed"},
    )


def endpoint_gone(subscription: Subscription) -> None:
    """Tell that an endpoint wants nothing more."""
    log.warning(
        "The endpoint of %s/%s answered 410; the subscription is paused.",
        subscription.topic,
        subscription.name,
        extra={**_of(subscription), "action": "endpoint_gone"},
    )


def consent_given(subscription: Subscription, agreement: Agreement) -> None:
    """Tell that an endpoint that was asked for its consent may be sent to."""
    log.info(
        "The endpoint of %s/%s %s.",
        subscription.topic,
        subscription.name,
        "agrees to be sent to" if agreement.supported else "knows nothing of being asked",
        extra={**_of(subscription), "action": "consent_given"},
    )


def consent_missing(subscription: Subscription, reason: str) -> None:
    """Tell that nothing is sent to an endpoint, for want of its consent."""
    log.warning(
        "Nothing is sent to the endpoint of %s/%s without its consent: %s.",
        subscription.topic,
        subscription.name,
        reason,
        extra={**_of(subscription), "action": "consent_missing"},
    )


def too_old(topic: str, subscription: str, count: int) -> None:
    """Tell that messages were owed for longer than they may be."""
    log.warning(
        "%d messages were owed to %s/%s for too long, and are dead letters now.",
        count,
        topic,
        subscription,
        extra={"topic": topic, "subscription": subscription, "count": count, "action": "too_old"},
    )


def _of(subscription: Subscription) -> dict[str, object]:
    return {"topic": subscription.topic, "subscription": subscription.name}


class Incidents:
    """Tells of one subscription's messages that are given up, of a kind one a minute.

    An endpoint that rejects all it gets would fill the log, and hide what else is in it. The next
    line says how many were not told of; the dead letters themselves have all.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told_at = {"dead_letter": -inf, "blocked": -inf}
        self._untold = dict.fromkeys(self._told_at, 0)

    def dead(self, subscription: Subscription, delivery: Delivery, reason: str) -> None:
        """Tell of a dead letter."""
        self._tell("dead_letter", "is a dead letter of", subscription, delivery, reason)

    def blocked(self, subscription: Subscription, delivery: Delivery, reason: str) -> None:
        """Tell of a message behind which its key waits for somebody to decide."""
        self._tell("blocked", "blocks its key at", subscription, delivery, reason)

    def _tell(
        self, action: str, does: str, subscription: Subscription, delivery: Delivery, reason: str
    ) -> None:
        now = self._now()
        if now - self._told_at[action] < TOLD_S:
            self._untold[action] += 1
            return
        self._told_at[action] = now
        untold, self._untold[action] = self._untold[action], 0
        log.warning(
            "Message %d of %s %s %s: %s.%s",
            delivery.message.seq,
            subscription.topic,
            does,
            subscription.name,
            reason,
            f" {untold} others were not told of." if untold else "",
            extra={
                **_of(subscription),
                "sequence": delivery.message.seq,
                "attempts": delivery.attempts,
                **({"untold": untold} if untold else {}),
                "action": action,
            },
        )
