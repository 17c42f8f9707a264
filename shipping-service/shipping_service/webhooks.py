"""What the service does about the messages it receives."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.orm import Session

from broker_client import DeadLetter, Event, Inbox
from broker_client.flask_ext import Subscriber
from shipping_service.depot import Depot

KEPT_S = 45 * 86_400  # the broker owes a message for a week, and keeps a dead letter for 30 days
PURGE_EVERY_S = 3600.0


class NewOrder(BaseModel):
    """What shipping needs to know of an order."""

    id: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


def handle_orders(subscriber: Subscriber, depot: Depot) -> None:
    """Register a shipment for every order."""

    @subscriber.on("order", types=["order.created"])
    def register(event: Event, session: Session) -> None:
        try:
            order = NewOrder.model_validate(event.data)
        except ValidationError as fault:
            raise DeadLetter(f"no order that can be shipped: {fault}") from fault
        depot.register(session, order.id)


def purge_inbox(inbox: Inbox) -> float:
    """Forget events that are too old to come again; return the seconds until the next time."""
    inbox.purge(KEPT_S)
    return PURGE_EVERY_S
