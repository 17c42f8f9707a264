"""The sender: brings what is in the journal to people, by mail, chat and the like."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from apprise import Apprise, NotifyBase, NotifyFormat
from sqlalchemy import select, update

from notification_service.database import Database
from notification_service.models import Notification, Sending

log = logging.getLogger(__name__)

LOOK_S = 0.5
LEASE_S = 120.0
MAX_ATTEMPTS = 20
MAX_BACKOFF_S = 600.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send a notification."""

    notification_id: int
    number: int
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends what is due through one channel, whichever worker claims it first.

    A notification is stored before it is sent, so a channel that fails loses nothing; it is tried
    again for some two hours. A process that dies between sending and noting it sends once more.
    Each channel has a sender of its own: one that is slow or away holds up no other.
    """

    database: Database
    number: int
    channel: Apprise
    clock: Callable[[], float]
    random: Random

    def step(self) -> float:
        """Send one notification, if one is due; return the seconds until the next look."""
        attempt = self.claim()
        if attempt is None:
            return LOOK_S
        sent = self.channel.notify(attempt.text, attempt.title, body_format=NotifyFormat.TEXT)
        self.note(attempt, bool(sent))
        return 0

    def claim(self) -> Attempt | None:
        """Take the sending that has been due longest; it falls due again if nothing is noted."""
        now = self.clock()
        due = (
            select(Sending, Notification)
            .join(Notification)
            .where(Sending.due_at <= now, Sending.channel == self.number)
            .order_by(Sending.due_at, Sending.notification_id)
            .limit(1)
            .with_for_update(skip_locked=True, of=Sending)
        )
        with self.database.write() as session:
            found = session.execute(due).first()
            if found is None:
                return None
            sending, notification = found
            sending.attempts += 1
            sending.due_at = now + LEASE_S
            return Attempt(
                notification_id=notification.id,
                number=sending.attempts,
                title=f"Order {notification.order_id}",
                text=notification.text,
            )

    def note(self, attempt: Attempt, sent: bool) -> None:
        """Note how an attempt went, and when the next one is due if there is one."""
        now = self.clock()
        wait_s = None if sent else backoff_s(attempt.number, self.random.random())
        row = Sending.notification_id == attempt.notification_id, Sending.channel == self.number
        with self.database.write() as session:
            session.execute(
                update(Sending)
                .where(*row)
                .values(
                    sent_at=now if sent else None,
                    due_at=None if wait_s is None else now + wait_s,
                )
            )
        if not sent:
            _warn(self.number, attempt, wait_s)


def open_channel(url: str) -> Apprise:
    """Open a channel by its Apprise URL.

    Apprise lets 5.5 s pass between two messages unless a service asks for a pace of its own; a
    mail server asks for none, and refuses for a while what is too much for it.
    """
    channel = Apprise(url)
    for service in channel:
        if service.request_rate_per_sec == NotifyBase.request_rate_per_sec:
            service.request_rate_per_sec = 0
    return channel


def backoff_s(attempt: int, dice: float) -> float | None:
    """Say how long to wait after a failed attempt, None after the last; `dice` is in [0, 1)."""
    if attempt >= MAX_ATTEMPTS:
        return None
    return min(MAX_BACKOFF_S, 2.0**attempt) * (1 + dice) / 2


def _warn(channel: int, attempt: Attempt, wait_s: float | None) -> None:
    outlook = "given up" if wait_s is None else f"next try in {wait_s:.0f} s"
    log.warning(
        "Notification %s did not get through channel %s (attempt %s), %s",
        *(attempt.notification_id, channel, attempt.number, outlook),
    )
