"""The journal: every notification is kept, and told in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from broker_client import Event
from notification_service.database import Database
from notification_service.models import Notification, Sending
from notification_service.story import News

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal:
    """Writes notifications down; each is owed to every channel, which are numbered from 1."""

    database: Database
    clock: Callable[[], float]
    channel_count: int

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction; what it wrote down is told in the log once it is committed."""
        with self.database.write() as session:
            yield session
        for news in session.info.pop("news", ()):
            log.info(news.text, extra={"action": "notify", "order_id": news.order_id})

    def write(self, session: Session, event: Event, news: News) -> None:
        """Write down what is told about an event."""
        now = self.clock()
        notification = Notification(
            order_id=news.order_id,
            event_type=event.type,
            event_id=event.id,
            text=news.text,
            created_at=now,
            sendings=[Sending(channel=each + 1, due_at=now) for each in range(self.channel_count)],
        )
        session.add(notification)
        session.info.setdefault("news", []).append(news)

    def list_page(self, order_id: str | None, after: int, limit: int) -> list[Notification]:
        """List notifications, oldest first, from the one after `after` on."""
        query = select(Notification).where(Notification.id > after)
        if order_id is not None:
            query = query.where(Notification.order_id == order_id)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(Notification.id).limit(limit)))
