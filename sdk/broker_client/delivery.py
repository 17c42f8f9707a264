"""A delivery: an event, and what the broker says about this attempt to deliver it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker_client.ack_handle import AckHandle
from broker_client.errors import LaterNotAllowed
from broker_client.event import Event
from broker_client.formats import BATCH, media_type

_DIGITS = re.compile(r"\d{1,19}")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event as it came in a webhook request, or was pulled.

    `sequence` is its place in the topic, `attempt` counts from 1, `replayed` says that it was
    asked for again, `webhook_id` is the same on every attempt, and "" where it was pulled.
    `subscription` is None, and `sequence` too, where the sender is another than the broker.
    `ack_url` is None unless the subscription allows to answer `later`; it is in a batch, whose URL
    is for all of it. `trace` has the request's own `traceparent` and `tracestate`, if it had them.
    """

    event: Event
    topic: str
    subscription: str | None
    sequence: int | None
    attempt: int
    replayed: bool
    webhook_id: str
    ack_url: str | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    def ack_later(self) -> AckHandle:
        """Return the way to settle this delivery once it has been answered with `Later`.

        Raises LaterNotAllowed.
        """
        if self.ack_url is None:
            raise LaterNotAllowed
        return AckHandle(self.ack_url)


def is_batch(headers: Mapping[str, str]) -> bool:
    """Say whether a request is in batch mode; header names are in lower case."""
    return media_type(headers) == BATCH


def read_deliveries(topic: str, headers: Mapping[str, str], body: bytes) -> list[Delivery]:
    """Read a webhook request in any mode; header names are in lower case.

    Returns one delivery, or those of a batch in their order. Raises MalformedEvent.
    """
    events = Event.batch_from_http(body) if is_batch(headers) else [Event.from_http(headers, body)]
    return [_delivery(topic, headers, event) for event in events]


def _delivery(topic: str, headers: Mapping[str, str], event: Event) -> Delivery:
    event, sequence = _take_sequence(event)
    return Delivery(
        event=event,
        topic=topic,
        subscription=subscription_in(headers),
        sequence=sequence,
        attempt=_number(headers.get("webhook-attempt")) or 1,
        replayed=headers.get("webhook-replay", "").lower() == "true",
        webhook_id=headers.get("webhook-id", ""),
        ack_url=None if is_batch(headers) else headers.get("webhook-ack-url") or None,
        trace={name: headers[name] for name in ("traceparent", "tracestate") if name in headers},
    )


def subscription_in(headers: Mapping[str, str]) -> str | None:
    """Return the name of the subscription that a request names, if it does."""
    _, _, name = headers.get("webhook-subscription", "").partition("/")
    return name or None


def read_pulled(topic: str, subscription: str, document: Mapping[str, Any]) -> Delivery:
    """Read one delivery of a pull's answer. Raises MalformedEvent."""
    message = document.get("message")
    event, sequence = _take_sequence(Event.from_dict(message if isinstance(message, dict) else {}))
    return Delivery(
        event=event,
        topic=topic,
        subscription=subscription,
        sequence=sequence,
        attempt=_number(document.get("attempt")) or 1,
        replayed=document.get("replay") is True,
        webhook_id="",
    )


def _take_sequence(event: Event) -> tuple[Event, int | None]:
    """Take the broker's `sequence` out of the event: the publisher did not put it there."""
    sequence = _number(event.extensions.get("sequence"))
    if sequence is None:
        return event, None
    others = {name: value for name, value in event.extensions.items() if name != "sequence"}
    return replace(event, extensions=others), sequence


def _number(value: object) -> int | None:
    return int(str(value)) if _DIGITS.fullmatch(str(value)) else None
