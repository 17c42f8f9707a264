"""What the service stores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Double, ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The service's tables."""


class Notification(Base):
    """What a customer is told about one event."""

    __tablename__ = "notification"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(String(128), index=True)
    event_type: Mapped[str] = mapped_column(String(128))
    event_id: Mapped[str] = mapped_column(String(256))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)
    sendings: Mapped[list[Sending]] = relationship(lazy="selectin", order_by="Sending.channel")

    def to_dict(self) -> dict[str, Any]:
        """Return the notification as its readers see it."""
        return {
            "id": self.id,
            "order_id": self.order_id,
            "event_type": self.event_type,
            "event_id": self.event_id,
            "text": self.text,
            "created_at": _rfc3339(self.created_at),
            "sendings": [sending.to_dict() for sending in self.sendings],
        }


class Sending(Base):
    """One notification owed to one channel; `due_at` is the next attempt, None when it is over."""

    __tablename__ = "sending"

    notification_id: Mapped[int] = mapped_column(ForeignKey(Notification.id), primary_key=True)
    channel: Mapped[int] = mapped_column(primary_key=True)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[float | None] = mapped_column(Double, index=True)
    sent_at: Mapped[float | None] = mapped_column(Double)

    @property
    def state(self) -> str:
        """Say `sent`, `waiting` for an attempt, or `failed` for good."""
        if self.sent_at is not None:
            return "sent"
        return "failed" if self.due_at is None else "waiting"

    def to_dict(self) -> dict[str, Any]:
        """Return how far the sending is."""
        return {"channel": self.channel, "state": self.state, "attempts": self.attempts}


def _rfc3339(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
