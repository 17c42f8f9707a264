"""What is told about an event, decided without touching anything."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field

from broker_client import Event

SHIPMENT_NEWS = {
    "shipment.registered": "is being packed.",
    "shipment.shipped": "has shipped.",
    "shipment.delivered": "has been delivered. Enjoy!",
    "shipment.returned": "could not be delivered and is on its way back.",
}

# A story's words stay on their line, whoever published them.
Word = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


class OrderCreated(BaseModel):
    """The part of an order that is told."""

    id: Word
    customer_id: Word
    item_id: Word
    quantity: int
    total: Decimal


class ShipmentChanged(BaseModel):
    """The part of a shipment that is told."""

    order_id: Word


@dataclass(frozen=True, slots=True)
class News:
    """One sentence about an order."""

    order_id: str
    text: str


def order_news(event: Event) -> News:
    """Tell that an order was placed. Raises pydantic.ValidationError."""
    order = OrderCreated.model_validate(event.data)
    bought = f'{order.quantity} × "{order.item_id}" for {order.total:.2f}'  # noqa: RUF001
    return News(
        order.id, f"Order {order.id} from customer {order.customer_id}: {bought} — thank you!"
    )


def shipment_news(event: Event) -> News:
    """Tell what became of a shipment. Raises pydantic.ValidationError."""
    shipment = ShipmentChanged.model_validate(event.data)
    return News(shipment.order_id, f"Order {shipment.order_id} {SHIPMENT_NEWS[event.type]}")
