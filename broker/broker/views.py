"""What topics, subscriptions and messages look like from outside."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from broker.auth import ApiKey
from broker.cloudevents import attributes_of, rfc3339, structured
from broker.consent import Consent, ConsentState
from broker.model import Conclusion, ExceptionRow, FailedAttempt, Message, Result, Scheduled
from broker.store.port import Due, ShardStats, TopicStats
from broker.subscription import (
    Format,
    Guarantee,
    Ordering,
    RetryPolicy,
    Subscription,
    WhenExhausted,
)
from broker.topic import Retention, Topic

HIDDEN: Literal["***"] = "***"

Time: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Amount: TypeAlias = Annotated[int, Meta(ge=0)]
Place: TypeAlias = Annotated[int, Meta(ge=1)]
State: TypeAlias = Literal["active", "paused", "circuit-open"]
Unsettled: TypeAlias = Literal["retrying", "in-flight", "blocked", "waiting"]
Fate: TypeAlias = Literal["owed", "retrying", "in-flight", "blocked", "waiting", "dead", "settled"]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
WantedBy: TypeAlias = Annotated[
    Mapping[str, Any], Meta(extra_json_schema={"$ref": "#/components/schemas/Filter"})
]
StoredEvent: TypeAlias = Annotated[
    Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/StoredEvent"})
]


class KeyView(Struct):
    """An API key."""

    id: str
    name: str
    scopes: list[str]
    created_at: Time
    last_used_at: Annotated[Time | None, Meta(description="Right to a minute")]
    publish_rate: Annotated[
        float | None, Meta(description="Most messages a second; null: no limit")
    ]
    key: Annotated[
        str | UnsetType, Meta(description="The key itself, in the answer to its making only")
    ] = UNSET


class KeysView(Struct):
    """All API keys, in the order in which they were made."""

    keys: list[KeyView]


class TopicView(Struct):
    """A topic: its configuration and what it holds."""

    name: str
    retention: Retention
    dedup_window_s: Seconds
    schema: dict[str, Any] | bool | None
    created_at: Time
    message_count: Annotated[Amount, Meta(description="Messages, those that wait included")]
    bytes: Amount
    first_sequence: Annotated[
        Place, Meta(description="The oldest message's; the next one's where there is none")
    ]
    last_sequence: Annotated[Amount, Meta(description="The newest message's; 0 before the first")]
    subscriptions: Annotated[list[str], Meta(description="Their names")]


class TopicsView(Struct):
    """Topics, in the order of names."""

    topics: list[TopicView]


class SubscriptionView(Struct):
    """A subscription: its configuration, without secrets, and how far it is."""

    topic: str
    name: str
    endpoint: str | None
    guarantee: Guarantee
    ordering: Ordering
    format: Format
    max_batch: Place
    max_in_flight: Place
    timeout_s: Seconds
    retry: RetryPolicy
    rate_limit: Annotated[float | None, Meta(description="Deliveries a second; null: no limit")]
    when_exhausted: WhenExhausted
    ack_deadline_s: Seconds
    allow_later: bool
    consent: Consent
    consent_state: Annotated[
        ConsentState | None,
        Meta(
            description="What the endpoint says to being sent to; null where it is not asked. "
            "While `awaited` or `refused` nothing is sent, and `last_error` says why"
        ),
    ]
    max_backlog_age_s: Seconds | None
    dead_letter_retention_s: Seconds
    filters: list[WantedBy]
    headers: Annotated[
        dict[str, Literal["***"]], Meta(description="Their names; values are not shown")
    ]
    created_at: Time
    state: State
    paused_reason: str | None
    backlog: Annotated[Amount, Meta(description="Messages that are owed")]
    oldest_unsettled_s: Annotated[Seconds | None, Meta(description="Age of the oldest of them")]
    in_flight: Annotated[
        Amount,
        Meta(description="Requests that are out; of a pull subscription: messages that are leased"),
    ]
    retrying: Annotated[Amount, Meta(description="Deliveries that wait for their next attempt")]
    dead_letters: Amount
    blocked_keys: Amount
    last_error: Annotated[
        str | None,
        Meta(description="Why the last attempt failed that did, or why there is no consent to any"),
    ]
    secret: Annotated[
        str | UnsetType, Meta(description="Signs requests; in the answer to its creation only")
    ] = UNSET


class SubscriptionsView(Struct):
    """A topic's subscriptions, in the order of names."""

    subscriptions: list[SubscriptionView]


class SecretView(Struct):
    """A new secret, which is shown nowhere else."""

    secret: str
    overlap_s: Annotated[Seconds, Meta(description="How long the old one signs as well")]


class BacklogView(Struct):
    """How much a subscription is owed from its new position on."""

    backlog: Amount


class DeliveryView(Struct):
    """A delivery that is not settled."""

    sequence: Place
    state: Unsettled
    attempt: Annotated[Place, Meta(description="The attempt that is out or comes next")]
    next_attempt_at: Time | None
    ack_deadline_at: Time | None
    last_error: str | None
    replayed: Annotated[bool, Meta(description="Whether it was a dead letter")]
    key: Annotated[str | None, Meta(description="The event's `partitionkey`")]
    id: str
    type: str


class DeliveriesView(Struct):
    """A page of deliveries, by sequence."""

    deliveries: list[DeliveryView]
    next: Annotated[int | None, Meta(description="Read on with this `after`; null: no more")]


class ActedOnView(Struct):
    """What became of a delivery."""

    sequence: Place
    state: Literal["retrying", "dead"]


class AttemptView(Struct):
    """A failed attempt."""

    attempt: Place
    at: Time
    status: Annotated[int | None, Meta(description="null: there was no answer")]
    error: str | None
    duration_ms: Amount
    answer: Annotated[str, Meta(description="The first KiB of the answer")]


class AttemptsView(Struct):
    """The failed attempts at a message, the oldest first."""

    attempts: list[AttemptView]


class FateView(Struct):
    """What became of a message for one subscription.

    `settled` says that nothing is owed any more: it was delivered, or a filter, a seek or a start
    passed it over.
    """

    subscription: str
    state: Fate
    attempt: Annotated[Place | None, Meta(description="The attempt that is out or comes next")]
    next_attempt_at: Time | None
    reason: str | None
    failed_attempts: list[AttemptView]


class DeadLetterView(Struct):
    """A message that was given up."""

    sequence: Place
    reason: str
    attempts: Amount
    dead_at: Time
    key: Annotated[str | None, Meta(description="The event's `partitionkey`")]
    message: StoredEvent
    failed_attempts: Annotated[
        list[AttemptView] | UnsetType, Meta(description="Where one dead letter is asked for")
    ] = UNSET


class DeadLettersView(Struct):
    """A page of dead letters, by sequence."""

    dead_letters: list[DeadLetterView]
    next: Annotated[int | None, Meta(description="Read on with this `after`; null: no more")]


class ReplayedView(Struct):
    """How many dead letters are owed again."""

    replayed: Amount


class ConcludedView(Struct):
    """Whether a verdict came in time: `lapsed` if nothing waits for it any more."""

    result: Conclusion


class PulledView(Struct):
    """A delivery that was pulled."""

    ack_id: Annotated[
        str | None, Meta(description="By which it is settled; null: it is settled, at most once")
    ]
    attempt: Place
    replay: Annotated[bool, Meta(description="Whether it comes again for a seek or a replay")]
    message: StoredEvent


class PulledPage(Struct):
    """Deliveries that were pulled."""

    deliveries: list[PulledView]


class SettledView(Struct):
    """What became of a delivery: `unknown` if none has such an id, `lapsed` if it is another's."""

    ack_id: str
    result: Result


class SettledPage(Struct):
    """What became of deliveries, in the order of the request."""

    results: list[SettledView]


class MessagesView(Struct):
    """A page of messages, by sequence."""

    messages: list[StoredEvent]
    next: Annotated[int | None, Meta(description="Read on with this `after`; null: no more")]


class ScheduledView(Struct):
    """A page of messages that wait, in the order in which they are due."""

    messages: list[StoredEvent]
    next: Annotated[str | None, Meta(description="Read on with this `after`; null: no more")]


class PumpView(Protocol):
    """What a pump tells of itself."""

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed that did."""

    def in_flight(self) -> int:
        """Count the requests that are out."""

    @property
    def consent_state(self) -> ConsentState | None:
        """How the endpoint stands to being sent to; None where it is not asked."""

    def circuit_closed(self) -> bool:
        """Say whether attempts are made as usual."""


def key_view(key: ApiKey) -> KeyView:
    """Render an API key, of which the key itself is not known any more."""
    return KeyView(
        id=key.id,
        name=key.name,
        scopes=[str(scope) for scope in key.scopes],
        created_at=rfc3339(key.created_at),
        last_used_at=None if key.used_at is None else rfc3339(key.used_at),
        publish_rate=key.publish_rate,
    )


def topic_view(topic: Topic, stats: TopicStats, subscriptions: list[str]) -> TopicView:
    """Render a topic: its configuration and what it holds."""
    return TopicView(
        name=topic.name,
        retention=topic.retention,
        dedup_window_s=topic.dedup_window_s,
        schema=topic.schema,
        created_at=rfc3339(topic.created_at),
        message_count=stats.message_count + stats.scheduled_count,
        bytes=stats.bytes + stats.scheduled_bytes,
        first_sequence=stats.first_sequence,
        last_sequence=stats.last_sequence,
        subscriptions=subscriptions,
    )


def subscription_view(
    subscription: Subscription, stats: ShardStats, pump: PumpView | None, now: float
) -> SubscriptionView:
    """Render a subscription: its configuration, without secrets, and how far it is."""
    oldest = stats.oldest_unsettled_at
    return SubscriptionView(
        topic=subscription.topic,
        name=subscription.name,
        endpoint=subscription.endpoint,
        guarantee=subscription.guarantee,
        ordering=subscription.ordering,
        format=subscription.format,
        max_batch=subscription.max_batch,
        max_in_flight=subscription.max_in_flight,
        timeout_s=subscription.timeout_s,
        retry=subscription.retry,
        rate_limit=subscription.rate_limit,
        when_exhausted=subscription.when_exhausted,
        ack_deadline_s=subscription.ack_deadline_s,
        allow_later=subscription.allow_later,
        consent=subscription.consent,
        consent_state=pump.consent_state if pump is not None else None,
        max_backlog_age_s=subscription.max_backlog_age_s,
        dead_letter_retention_s=subscription.dead_letter_retention_s,
        filters=list(subscription.filters),
        headers=dict.fromkeys(subscription.headers, HIDDEN),
        created_at=rfc3339(subscription.created_at),
        state=_state(subscription, pump),
        paused_reason=subscription.paused_reason,
        backlog=stats.backlog,
        oldest_unsettled_s=None if oldest is None else max(0.0, round(now - oldest, 3)),
        in_flight=_in_flight(subscription, stats, pump),
        retrying=stats.rows.get("retry", 0),
        dead_letters=stats.rows.get("dead", 0),
        blocked_keys=stats.blocked_keys,
        last_error=pump.last_error if pump is not None else None,
    )


def _in_flight(subscription: Subscription, stats: ShardStats, pump: PumpView | None) -> int:
    if not subscription.webhook():
        return stats.rows.get("leased", 0)
    return 0 if pump is None else pump.in_flight()


def _state(subscription: Subscription, pump: PumpView | None) -> State:
    if subscription.paused:
        return "paused"
    return "circuit-open" if pump is not None and not pump.circuit_closed() else "active"


def delivery_view(state: Unsettled, due: Due) -> DeliveryView:
    """Render a delivery that is not settled; `attempt` is the one that is out or comes next."""
    row, event = due.row, attributes_of(due.message.attributes)
    leased = row.state == "leased" and isfinite(row.due_at)
    return DeliveryView(
        sequence=row.seq,
        state=state,
        attempt=row.attempts + 1,
        next_attempt_at=rfc3339(row.due_at) if row.state == "retry" else None,
        ack_deadline_at=rfc3339(row.due_at) if leased else None,
        last_error=row.reason or None,
        replayed=row.replayed,
        key=row.key,
        id=str(event["id"]),
        type=str(event["type"]),
    )


def fate_view(
    name: str, state: Fate, row: ExceptionRow | None, failed_attempts: list[AttemptView]
) -> FateView:
    """Render what became of a message for one subscription."""
    failed = len(failed_attempts) if row is None else row.attempts
    return FateView(
        subscription=name,
        state=state,
        attempt=None if state in {"dead", "settled"} else failed + 1,
        next_attempt_at=rfc3339(row.due_at) if row is not None and state == "retrying" else None,
        reason=(row.reason or None) if row is not None else None,
        failed_attempts=failed_attempts,
    )


def dead_letter_view(
    due: Due, failed_attempts: list[AttemptView] | UnsetType = UNSET
) -> DeadLetterView:
    """Render a dead letter with its whole message."""
    row, message = due.row, due.message
    return DeadLetterView(
        sequence=row.seq,
        reason=row.reason,
        attempts=row.attempts,
        dead_at=rfc3339(row.since),
        key=row.key,
        message=Raw(structured(message.attributes, message.data, message.seq)),
        failed_attempts=failed_attempts,
    )


def attempt_view(attempt: FailedAttempt) -> AttemptView:
    """Render one failed attempt."""
    return AttemptView(
        attempt=attempt.attempt,
        at=rfc3339(attempt.at),
        status=attempt.status,
        error=attempt.error or None,
        duration_ms=attempt.duration_ms,
        answer=attempt.answer,
    )


def messages_view(messages: Sequence[Message], following: int | None) -> MessagesView:
    """Render a page of messages."""
    events = [Raw(structured(m.attributes, m.data, m.seq)) for m in messages]
    return MessagesView(events, following)


def scheduled_event(message: Scheduled) -> bytes:
    """Render a message that waits for its time."""
    return structured(message.attributes, message.data, None)


def scheduled_view(messages: Sequence[Scheduled], following: str | None) -> ScheduledView:
    """Render a page of messages that wait for their time."""
    return ScheduledView([Raw(scheduled_event(message)) for message in messages], following)
