"""What the service stores."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Double, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The service's tables."""


class Order(Base):
    """What a customer ordered. Money is in cents, so that sums are exact."""

    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    customer_id: Mapped[str] = mapped_column(String(128))
    item_id: Mapped[str] = mapped_column(String(128))
    quantity: Mapped[int]
    price_cents: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Double)

    def to_dict(self) -> dict[str, Any]:
        """Return the order as its readers see it, in answers and in messages alike."""
        return {
            "id": self.id,
            "customer_id": self.customer_id,
            "item_id": self.item_id,
            "quantity": self.quantity,
            "price": _amount(self.price_cents),
            "total": _amount(self.price_cents * self.quantity),
            "created_at": _rfc3339(self.created_at),
        }


class DemoTurn(Base):
    """One row: when the next demo order is due, whichever worker places it."""

    __tablename__ = "demo_turn"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    due_at: Mapped[float] = mapped_column(Double)


def _amount(cents: int) -> float:
    # Up to 15 digits, the nearest double prints as the very decimal it came from.
    return float(Decimal(cents).scaleb(-2))


def _rfc3339(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
