"""What topics, subscriptions and messages look like from outside."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any, Protocol

import msgspec

from broker.auth import ApiKey
from broker.cloudevents import attributes_of, rfc3339, structured
from broker.model import FailedAttempt, Message, Scheduled
from broker.store.port import Due, ShardStats, TopicStats
from broker.subscription import Subscription
from broker.topic import Topic

HIDDEN = "***"


class PumpView(Protocol):
    """What a pump tells of itself."""

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed that did."""

    def in_flight(self) -> int:
        """Count the requests that are out."""

    def circuit_closed(self) -> bool:
        """Say whether attempts are made as usual."""


def key_view(key: ApiKey) -> dict[str, Any]:
    """Render an API key, of which the key itself is not known any more."""
    return {
        "id": key.id,
        "name": key.name,
        "scopes": [str(scope) for scope in key.scopes],
        "created_at": rfc3339(key.created_at),
        "last_used_at": None if key.used_at is None else rfc3339(key.used_at),
    }


def topic_view(topic: Topic, stats: TopicStats, subscriptions: list[str]) -> dict[str, Any]:
    """Render a topic: its configuration and what it holds."""
    return {
        "name": topic.name,
        "retention": asdict(topic.retention),
        "dedup_window_s": topic.dedup_window_s,
        "schema": topic.schema,
        "created_at": rfc3339(topic.created_at),
        "message_count": stats.message_count + stats.scheduled_count,
        "bytes": stats.bytes + stats.scheduled_bytes,
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
        "filters": list(subscription.filters),
        "format": subscription.format,
        "max_batch": subscription.max_batch,
        "max_in_flight": subscription.max_in_flight,
        "timeout_s": subscription.timeout_s,
        "retry": asdict(subscription.retry),
        "rate_limit": subscription.rate_limit,
        "when_exhausted": subscription.when_exhausted,
        "ack_deadline_s": subscription.ack_deadline_s,
        "allow_later": subscription.allow_later,
        "max_backlog_age_s": subscription.max_backlog_age_s,
        "dead_letter_retention_s": subscription.dead_letter_retention_s,
        "headers": dict.fromkeys(subscription.headers, HIDDEN),
        "created_at": rfc3339(subscription.created_at),
        "state": _state(subscription, pump),
        "paused_reason": subscription.paused_reason,
        "backlog": stats.backlog,
        "oldest_unsettled_s": None if oldest is None else max(0.0, round(now - oldest, 3)),
        "in_flight": (
            stats.rows.get("leased", 0)
            if subscription.endpoint is None
            else pump.in_flight()
            if pump is not None
            else 0
        ),
        "retrying": stats.rows.get("retry", 0),
        "dead_letters": stats.rows.get("dead", 0),
        "blocked_keys": stats.blocked_keys,
        "last_error": pump.last_error if pump is not None else None,
    }


def _state(subscription: Subscription, pump: PumpView | None) -> str:
    if subscription.paused:
        return "paused"
    return "circuit-open" if pump is not None and not pump.circuit_closed() else "active"


def delivery_view(state: str, due: Due) -> dict[str, Any]:
    """Render a delivery that is not settled; `attempt` is the one that is out or comes next."""
    row, event = due.row, attributes_of(due.message.attributes)
    return {
        "sequence": row.seq,
        "state": state,
        "attempt": row.attempts + 1,
        "next_attempt_at": rfc3339(row.due_at) if row.state == "retry" else None,
        "ack_deadline_at": (
            rfc3339(row.due_at) if row.state == "leased" and isfinite(row.due_at) else None
        ),
        "last_error": row.reason or None,
        "replayed": row.replayed,
        "key": row.key,
        "id": event.get("id"),
        "type": event.get("type"),
    }


def dead_letter_view(due: Due) -> dict[str, Any]:
    """Render a dead letter with its whole message."""
    row, message = due.row, due.message
    return {
        "sequence": row.seq,
        "reason": row.reason,
        "attempts": row.attempts,
        "dead_at": rfc3339(row.since),
        "key": row.key,
        "message": msgspec.json.decode(structured(message.attributes, message.data, message.seq)),
    }


def attempt_view(attempt: FailedAttempt) -> dict[str, Any]:
    """Render one failed attempt."""
    return {
        "attempt": attempt.attempt,
        "at": rfc3339(attempt.at),
        "status": attempt.status,
        "error": attempt.error or None,
        "duration_ms": attempt.duration_ms,
        "answer": attempt.answer,
    }


def messages_page(messages: list[Message], following: int | None) -> bytes:
    """Render a page of messages as JSON."""
    events = b",".join(structured(m.attributes, m.data, m.seq) for m in messages)
    after = b"null" if following is None else b"%d" % following
    return b'{"messages":[%s],"next":%s}' % (events, after)


def scheduled_event(message: Scheduled) -> bytes:
    """Render a message that waits for its time."""
    return structured(message.attributes, message.data, None)


def scheduled_page(messages: Sequence[Scheduled], following: str | None) -> bytes:
    """Render a page of messages that wait for their time."""
    events = b",".join(map(scheduled_event, messages))
    return b'{"messages":[%s],"next":%s}' % (events, msgspec.json.encode(following))
