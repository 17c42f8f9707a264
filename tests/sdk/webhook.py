"""Webhook requests as the broker sends them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from broker_client import Event
from broker_client.signatures import sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request: headers and body."""

    headers: Mapping[str, str]
    body: bytes


def binary(event: Event, sequence: int = 1) -> Webhook:
    """Put an event in headers and body."""
    theirs = JSONFormat().read(CloudEvent, event.to_json().encode())
    message = http.to_binary(theirs, JSONFormat())
    return Webhook({**message.headers, "ce-sequence": str(sequence)}, message.body)


def structured(event: Event, sequence: int = 1) -> Webhook:
    """Put an event in one JSON object."""
    body = json.dumps({**event.to_dict(), "sequence": sequence}).encode()
    return Webhook({"Content-Type": "application/cloudevents+json"}, body)


def batch(events: Sequence[Event]) -> Webhook:
    """Put events in one JSON array."""
    documents = [{**event.to_dict(), "sequence": n} for n, event in enumerate(events, 1)]
    return Webhook(
        {"Content-Type": "application/cloudevents-batch+json"}, json.dumps(documents).encode()
    )


def signed(
    webhook: Webhook,
    *,
    subscription: str = "order/shop",
    secret: str = SECRET,
    attempt: int = 1,
    **more: str,
) -> Webhook:
    """Sign a request now; `more` headers have underscores for their hyphens."""
    headers = {
        **webhook.headers,
        **sign(secret, "msg_1", datetime.now(UTC), webhook.body),
        "webhook-subscription": subscription,
        "webhook-attempt": str(attempt),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return Webhook(headers, webhook.body)
