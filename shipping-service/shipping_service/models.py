"""What the service stores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Double, Enum, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shipping_service.status import Status


class Base(DeclarativeBase):
    """The service's tables."""


class Shipment(Base):
    """An order's one shipment. `due_at` is when it moves on by itself; None once it is over."""

    __tablename__ = "shipment"

    order_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    status: Mapped[Status] = mapped_column(Enum(Status, native_enum=False, length=16))
    registered_at: Mapped[float] = mapped_column(Double)
    changed_at: Mapped[float] = mapped_column(Double)
    due_at: Mapped[float | None] = mapped_column(Double, index=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the shipment as its readers see it."""
        return {
            "id": self.id,
            "order_id": self.order_id,
            "status": self.status,
            "registered_at": _rfc3339(self.registered_at),
            "changed_at": _rfc3339(self.changed_at),
        }


def _rfc3339(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
