"""What the service does about the messages it receives."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError
from sqlalchemy.orm import Session

from broker_client import DeadLetter, Event, Inbox
from broker_client.flask_ext import Subscriber
from notification_service.journal import Journal
from notification_service.story import SHIPMENT_NEWS, News, order_news, shipment_news

KEPT_S = 45 * 86_400  # the broker owes a message for a week, and keeps a dead letter for 30 days
PURGE_EVERY_S = 3600.0


def handle_events(subscriber: Subscriber, journal: Journal) -> None:
    """Write down what happens to orders and shipments."""

    @subscriber.on("order", types=["order.created"])
    def order_created(event: Event, session: Session) -> None:
        journal.write(session, event, read_news(order_news, event))

    @subscriber.on("shipment", types=list(SHIPMENT_NEWS))
    def shipment_changed(event: Event, session: Session) -> None:
        journal.write(session, event, read_news(shipment_news, event))


def read_news(tell: Callable[[Event], News], event: Event) -> News:
    """Word an event's news. Raises DeadLetter: an event that says too little stays that way."""
    try:
        return tell(event)
    except ValidationError as fault:
        raise DeadLetter(f"nothing to tell: {fault}") from fault


def purge_inbox(inbox: Inbox) -> float:
    """Forget events that are too old to come again; return the seconds until the next time."""
    inbox.purge(KEPT_S)
    return PURGE_EVERY_S
