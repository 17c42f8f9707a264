"""The depot: registers shipments and moves them on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from broker_client import Event, Outbox
from broker_client.uuid7 import uuid7
from shipping_service.database import Database
from shipping_service.models import Shipment
from shipping_service.problems import Problem
from shipping_service.status import Status, next_status

log = logging.getLogger(__name__)

BATCH = 100
LOOK_S = 0.25


class ShipmentNotFound(Problem):
    """No shipment is registered for this order."""

    def __init__(self, order_id: str) -> None:
        detail = f"No shipment is registered for order {order_id}."
        super().__init__(404, "shipment_not_found", detail)


class IllegalTransition(Problem):
    """A shipment cannot go from its status to the wanted one."""

    def __init__(self, status: Status, wanted: Status) -> None:
        allowed = " or ".join(status.following) or "nothing else"
        detail = f"A shipment that is {status} can become {allowed}, not {wanted}."
        super().__init__(409, "illegal_transition", detail)


@dataclass(frozen=True, slots=True)
class Depot:
    """Every change of a shipment and the message about it are one transaction."""

    database: Database
    outbox: Outbox
    clock: Callable[[], float]
    random: Random
    step_s: float
    returned_chance: float = 0.1

    def register(self, session: Session, order_id: str) -> None:
        """Register the shipment of an order; a second one for the same order is not made."""
        if session.get(Shipment, order_id) is not None:
            return
        now = self.clock()
        shipment = Shipment(order_id=order_id, id=uuid7(), registered_at=now)
        session.add(shipment)
        self._set(session, shipment, Status.REGISTERED, now)

    def change(self, order_id: str, wanted: Status) -> Shipment:
        """Move one shipment on. Raises ShipmentNotFound, IllegalTransition."""
        with self.database.write() as session:
            shipment = session.get(Shipment, order_id, with_for_update=True)
            if shipment is None:
                raise ShipmentNotFound(order_id)
            if wanted not in shipment.status.following:
                raise IllegalTransition(shipment.status, wanted)
            self._set(session, shipment, wanted, self.clock())
            return shipment

    def step(self) -> float:
        """Move on what is due; return the seconds until the next look."""
        return 0 if self.advance_due() == BATCH else LOOK_S

    def advance_due(self) -> int:
        """Move on up to a batch of shipments whose time has come; return how many.

        Workers that do this at the same time share the work: each takes rows no other holds.
        """
        now = self.clock()
        due = select(Shipment).where(Shipment.due_at <= now).order_by(Shipment.due_at).limit(BATCH)
        with self.database.read() as session:
            if session.scalar(due.with_only_columns(Shipment.order_id)) is None:
                return 0

        with self.database.write() as session:
            shipments = session.scalars(due.with_for_update(skip_locked=True)).all()
            for shipment in shipments:
                dice = self.random.random()
                wanted = next_status(shipment.status, dice, self.returned_chance)
                self._set(session, shipment, wanted, now)
            return len(shipments)

    def find(self, order_id: str) -> Shipment:
        """Look up the shipment of an order. Raises ShipmentNotFound."""
        with self.database.read() as session:
            shipment = session.get(Shipment, order_id)
        if shipment is None:
            raise ShipmentNotFound(order_id)
        return shipment

    def list_page(self, after: str, limit: int) -> list[Shipment]:
        """List shipments by order id, from the one after `after` on."""
        query = select(Shipment).where(Shipment.order_id > after)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(Shipment.order_id).limit(limit)))

    def _set(self, session: Session, shipment: Shipment, status: Status, now: float) -> None:
        previous = shipment.status
        shipment.status = status
        shipment.changed_at = now
        shipment.due_at = now + self.step_s if status.following else None
        self.outbox.add(session, "shipment", shipment_changed(shipment, previous))
        event.listen(
            session, "after_commit", partial(tell_of, shipment.order_id, status), once=True
        )


def tell_of(order_id: str, status: Status, _: Session) -> None:
    """Tell the log of a shipment's new status, once it is committed."""
    extra = {"action": f"shipment_{status.lower()}", "order_id": order_id}
    log.info("The shipment of order %s is %s", order_id, status, extra=extra)


def shipment_changed(shipment: Shipment, previous: Status | None) -> Event:
    """Word the message that a shipment has a new status, `shipment.shipped` for example."""
    return Event(
        type=f"shipment.{shipment.status.lower()}",
        source="/shipping-service",
        subject=shipment.order_id,
        partitionkey=shipment.order_id,
        data=shipment.to_dict() | {"previous_status": previous},
    )
