"""Orders: placed, and read again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, cast

from flask import Blueprint, current_app, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from broker_client import Event, Outbox
from broker_client.uuid7 import uuid7
from order_service.database import Database
from order_service.models import Order
from order_service.problems import Problem, read_body, read_query

log = logging.getLogger(__name__)

Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
    Field(coerce_numbers_to_str=True),
]


class NewOrder(BaseModel):
    """An order as a customer asks for it."""

    customer_id: Name
    item_id: Name
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    price: Annotated[Decimal, Field(gt=0, le=10_000_000, decimal_places=2)]


class Page(BaseModel):
    """Which part of the list is wanted."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str = ""


@dataclass(frozen=True, slots=True)
class Orders:
    """The shop's book: each order and its message are one transaction."""

    database: Database
    outbox: Outbox
    clock: Callable[[], float]

    def place(self, wanted: NewOrder) -> Order:
        """Take an order, and tell it through the outbox."""
        with self.database.write() as session:
            order = self.add(session, wanted, self.clock())
        tell_of(order)
        return order

    def add(self, session: Session, wanted: NewOrder, now: float) -> Order:
        """Take an order within a transaction that the caller has open."""
        order = Order(
            id=uuid7(),
            customer_id=wanted.customer_id,
            item_id=wanted.item_id,
            quantity=wanted.quantity,
            price_cents=int(wanted.price * 100),
            created_at=now,
        )
        session.add(order)
        self.outbox.add(session, "order", order_created(order))
        return order

    def find(self, order_id: str) -> Order | None:
        """Look up one order."""
        with self.database.read() as session:
            return session.get(Order, order_id)

    def list_page(self, page: Page) -> list[Order]:
        """List orders, oldest first, from the one after `page.after` on."""
        query = select(Order).where(Order.id > page.after).order_by(Order.id).limit(page.limit)
        with self.database.read() as session:
            return list(session.scalars(query))


def tell_of(order: Order) -> None:
    """Tell the log of an order that is committed."""
    log.info("Order %s is placed", order.id, extra={"action": "order_placed", "order_id": order.id})


def order_created(order: Order) -> Event:
    """Word the message that an order exists; messages of one order keep their order."""
    return Event(
        type="order.created",
        source="/order-service",
        subject=order.id,
        partitionkey=order.id,
        data=order.to_dict(),
    )


bp = Blueprint("orders", __name__)


def orders() -> Orders:
    """Return the running app's orders."""
    return cast(Orders, current_app.extensions["orders"])


@bp.post("/orders")
def place_order() -> ResponseReturnValue:
    """Take an order."""
    order = orders().place(read_body(NewOrder))
    return order.to_dict(), 201, {"Location": url_for("orders.show_order", order_id=order.id)}


@bp.get("/orders")
def list_orders() -> ResponseReturnValue:
    """List orders, oldest first; `next` is the `after` of the next page."""
    page = read_query(Page)
    found = [order.to_dict() for order in orders().list_page(page)]
    return {"orders": found, "next": found[-1]["id"] if len(found) == page.limit else None}


@bp.get("/orders/<order_id>")
def show_order(order_id: str) -> ResponseReturnValue:
    """Show one order."""
    order = orders().find(order_id)
    if order is None:
        raise Problem(404, "order_not_found", f"There is no order {order_id}.")
    return order.to_dict()
