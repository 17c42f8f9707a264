"""Where and how a subscription's requests go, as the courier is told."""

from broker.cloudevents import header_line
from broker.dispatch.frames import Endpoint
from broker.subscription import Subscription


def endpoint_of(
    subscription: Subscription, id_: int, webhook_id_prefix: str, now: float
) -> Endpoint:
    """Say where and how a subscription's requests go."""
    if subscription.endpoint is None:
        raise ValueError("a subscription without an endpoint gets no requests")
    return Endpoint(
        id=id_,
        url=subscription.endpoint,
        format=subscription.format,
        keys=subscription.signing_keys(now),
        old_keys_until=[old.until for old in subscription.old_secrets if old.until > now],
        timeout_ms=round(subscription.timeout_s * 1000),
        headers=[
            f"webhook-subscription: {subscription.topic}/{subscription.name}",
            *(header_line(name, value) for name, value in subscription.headers.items()),
        ],
        webhook_id_prefix=webhook_id_prefix,
        once=subscription.guarantee == "at-most-once",
    )
