"""Webhook requests as the broker makes them: binary CloudEvents, signed by Standard Webhooks.

Built from the texts of both standards, with nothing of the client library.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()

_serial = count(1)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request: the same one can be sent again and again."""

    type: str
    source: str
    data: Any
    subscription: str
    id: str = field(default_factory=lambda: f"event-{next(_serial)}")

    @property
    def body(self) -> bytes:
        """The event's data."""
        return json.dumps(self.data).encode()

    def headers(self, secret: str = SECRET) -> dict[str, str]:
        """Attributes and signature, made now."""
        webhook_id, timestamp = f"msg_{self.id}", str(int(time.time()))
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{webhook_id}.{timestamp}.".encode() + self.body
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        return {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-source": self.source,
            "ce-type": self.type,
            "ce-time": "2026-01-02T03:04:05Z",
            "ce-sequence": "1",
            "webhook-id": webhook_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
            "webhook-attempt": "1",
            "webhook-subscription": self.subscription,
        }


def order_data(order_id: str = "o-1", **fields: Any) -> dict[str, Any]:
    """The data of `order.created`."""
    return {
        "id": order_id,
        "customer_id": "c-17",
        "item_id": "blue mug",
        "quantity": 2,
        "price": 12.9,
        "total": 25.8,
        "created_at": "2026-01-02T03:04:05.000Z",
    } | fields


def order_created(subscriber: str, data: Any = None, **fields: Any) -> Webhook:
    """What a subscriber of topic `order` is sent."""
    given = order_data() if data is None else data
    return Webhook("order.created", "/order-service", given, f"order/{subscriber}", **fields)


def shipment_changed(status: str, order_id: str = "o-1", **fields: Any) -> Webhook:
    """What a subscriber of topic `shipment` is sent."""
    data = {"id": "s-1", "order_id": order_id, "status": status, "previous_status": None}
    kind = f"shipment.{status.lower()}"
    subscription = "shipment/notification-service"
    return Webhook(kind, "/shipping-service", data, subscription, **fields)
