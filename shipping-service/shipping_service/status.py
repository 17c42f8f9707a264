"""What a shipment may become, decided without touching anything."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a shipment is."""

    REGISTERED = "REGISTERED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    RETURNED = "RETURNED"

    @property
    def following(self) -> tuple[Status, ...]:
        """What a shipment may become from here: nothing once it has arrived or come back."""
        return _FOLLOWING[self]


_FOLLOWING = {
    Status.REGISTERED: (Status.SHIPPED,),
    Status.SHIPPED: (Status.DELIVERED, Status.RETURNED),
    Status.DELIVERED: (),
    Status.RETURNED: (),
}


def next_status(status: Status, dice: float, returned_chance: float) -> Status:
    """Say what a shipment that is still moving becomes by itself; `dice` is in [0, 1)."""
    if status is Status.REGISTERED:
        return Status.SHIPPED
    return Status.RETURNED if dice < returned_chance else Status.DELIVERED
