"""What the service does about the messages it receives."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.orm import Session

from broker_client import DeadLetter, Event
from broker_client.flask_ext import Subscriber
from shipping_service.depot import Depot


class NewOrder(BaseModel):
    """What shipping needs to know of an order."""

    id: Annotated[str, Field(min_length=1, max_length=128)]


def handle_orders(subscriber: Subscriber, depot: Depot) -> None:
    """Register a shipment for every order."""

    @subscriber.on("order", types=["order.created"])
    def register(event: Event, session: Session) -> None:
        try:
            order = NewOrder.model_validate(event.data)
        except ValidationError as fault:
            raise DeadLetter(f"no order that can be shipped: {fault}") from fault
        depot.register(session, order.id)
