"""Orders that the service places by itself, so that a first start shows life."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from order_service.models import Order
from order_service.orders import NewOrder, Orders, tell_of

PRICES = {
    "blue mug": "12.90",
    "oak desk": "349.00",
    "reading lamp": "39.95",
    "wool blanket": "64.50",
    "garden chair": "89.00",
    "tea pot": "27.25",
}
LOOK_S = 0.5
TAKE_TURN = text(
    "INSERT INTO demo_turn (id, due_at) VALUES (1, :next_at)"
    " ON CONFLICT (id) DO UPDATE SET due_at = :next_at WHERE demo_turn.due_at <= :now"
)


@dataclass(frozen=True, slots=True)
class Demo:
    """Places a random order every `interval_s`, once however many workers run this."""

    orders: Orders
    interval_s: float
    random: Random

    def step(self) -> float:
        """Place an order if one is due; return the seconds until the next look."""
        order = self.place_due_order()
        if order is not None:
            tell_of(order)
        return min(LOOK_S, self.interval_s)

    def place_due_order(self) -> Order | None:
        """Take the turn and place the order in one transaction, or find it taken."""
        now = self.orders.clock()
        with self.orders.database.write() as session:
            if not take_turn(session, now, now + self.interval_s):
                return None
            return self.orders.add(session, random_order(self.random), now)


def take_turn(session: Session, now: float, next_at: float) -> bool:
    """Claim the order that is due now, and set when the next one is; say whether that worked."""
    taken = session.execute(TAKE_TURN, {"now": now, "next_at": next_at})
    return cast(CursorResult[Any], taken).rowcount == 1


def random_order(random: Random) -> NewOrder:
    """Make up an order."""
    item_id, price = random.choice(list(PRICES.items()))
    return NewOrder(
        customer_id=f"c-{random.randint(1, 99)}",
        item_id=item_id,
        quantity=random.randint(1, 4),
        price=Decimal(price),
    )
