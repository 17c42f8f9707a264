"""What the log tells of deliveries: that an endpoint is down or back, that a message is given up.

A failed attempt that will be repeated is no incident: the delivery's own history has it.
"""

import logging

from broker.subscription import Subscription

log = logging.getLogger("broker.deliveries")


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


def endpoint_gone(subscription: Subscription) -> None:
    """Tell that an endpoint wants nothing more."""
    log.warning(
        "The endpoint of %s/%s answered 410; the subscription is paused.",
        subscription.topic,
        subscription.name,
        extra={**_of(subscription), "action": "endpoint_gone"},
    )


def given_up(
    subscription: Subscription, sequence: int, attempts: int, reason: str, *, blocks: bool
) -> None:
    """Tell that there will be no further attempt by itself."""
    log.warning(
        "Message %d of %s is blocked at %s: %s."
        if blocks
        else "Message %d of %s is a dead letter of %s: %s.",
        sequence,
        subscription.topic,
        subscription.name,
        reason,
        extra={
            **_of(subscription),
            "sequence": sequence,
            "attempts": attempts,
            "action": "blocked" if blocks else "dead_letter",
        },
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
