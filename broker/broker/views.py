"""What topics, subscriptions and messages look like from outside."""

from dataclasses import asdict
from typing import Any, Protocol

from broker.cloudevents import rfc3339, structured
from broker.model import Message
from broker.store.port import ShardStats, TopicStats
from broker.subscription import FIXED, Subscription
from broker.topic import Topic

HIDDEN = "***"


class PumpView(Protocol):
    """What a pump tells of itself."""

    last_error: str | None

    def in_flight(self) -> int:
        """Count the requests that are out."""


def topic_view(topic: Topic, stats: TopicStats, subscriptions: list[str]) -> dict[str, Any]:
    """Render a topic: its configuration and what it holds."""
    return {
        "name": topic.name,
        "retention": asdict(topic.retention),
        "dedup_window_s": topic.dedup_window_s,
        "created_at": rfc3339(topic.created_at),
        "message_count": stats.message_count,
        "bytes": stats.bytes,
        "first_sequence": stats.first_sequence,
        "last_sequence": stats.last_sequence,
        "subscriptions": subscriptions,
    }


def subscription_view(
    subscription: Subscription, stats: ShardStats, pump: PumpView | None, now: float
) -> dict[str, Any]:
    """Render a subscription: its configuration, without secrets, and how far it is."""
    oldest = stats.oldest_unsettled_at
    return {
        "topic": subscription.topic,
        "name": subscription.name,
        "endpoint": subscription.endpoint,
        "guarantee": subscription.guarantee,
        "ordering": subscription.ordering,
        "format": subscription.format,
        "max_batch": subscription.max_batch,
        "max_in_flight": subscription.max_in_flight,
        "timeout_s": subscription.timeout_s,
        "retry": asdict(subscription.retry),
        **FIXED,
        "headers": dict.fromkeys(subscription.headers, HIDDEN),
        "created_at": rfc3339(subscription.created_at),
        "state": "paused" if subscription.paused else "active",
        "paused_reason": subscription.paused_reason,
        "backlog": stats.backlog,
        "oldest_unsettled_s": None if oldest is None else max(0.0, round(now - oldest, 3)),
        "in_flight": pump.in_flight() if pump is not None else 0,
        "retrying": stats.rows.get("retry", 0),
        "dead_letters": stats.rows.get("dead", 0),
        "blocked_keys": stats.blocked_keys,
        "last_error": pump.last_error if pump is not None else None,
    }


def messages_page(messages: list[Message], following: int | None) -> bytes:
    """Render a page of messages as JSON."""
    events = b",".join(structured(m.attributes, m.data, m.seq) for m in messages)
    after = b"null" if following is None else b"%d" % following
    return b'{"messages":[%s],"next":%s}' % (events, after)
