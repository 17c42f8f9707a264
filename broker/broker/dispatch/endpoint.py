"""Where and how a subscription's requests go, as the courier is told."""

from broker.consent import Question, origin_line
from broker.dispatch.frames import Endpoint
from broker.subscription import Subscription


def endpoint_of(
    subscription: Subscription, id_: int, webhook_id_prefix: str, now: float
) -> Endpoint:
    """Say where and how a subscription's requests go."""
    if subscription.endpoint is None:
        raise ValueError("a subscription without an endpoint gets no requests")
    agreement = subscription.agreement
    asked = [] if agreement is None or not agreement.supported else [origin_line(agreement.origin)]
    return Endpoint(
        id=id_,
        url=subscription.endpoint,
        format=subscription.format,
        keys=subscription.signing_keys(now),
        old_keys_until=[old.until for old in subscription.old_secrets if old.until > now],
        timeout_ms=round(subscription.timeout_s * 1000),
        headers=[*_own_lines(subscription), *asked],
        webhook_id_prefix=webhook_id_prefix,
        once=subscription.guarantee == "at-most-once",
    )


def question_lines(subscription: Subscription, question: Question) -> list[str]:
    """Say with which headers the endpoint is asked for its consent."""
    return [*_own_lines(subscription), *question.headers()]


def _own_lines(subscription: Subscription) -> list[str]:
    return [
        f"webhook-subscription: {subscription.topic}/{subscription.name}",
        *(f"{name}: {value}" for name, value in subscription.headers.items()),
    ]
