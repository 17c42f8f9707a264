"""What a shipment may become."""

from __future__ import annotations

import pytest

from shipping_service.status import Status, next_status


@pytest.mark.parametrize(
    ("status", "dice", "following"),
    [
        (Status.REGISTERED, 0.0, Status.SHIPPED),
        (Status.REGISTERED, 0.99, Status.SHIPPED),
        (Status.SHIPPED, 0.0999, Status.RETURNED),
        (Status.SHIPPED, 0.1, Status.DELIVERED),
        (Status.SHIPPED, 0.99, Status.DELIVERED),
    ],
)
def test_shipment_moves_on_by_itself(status: Status, dice: float, following: Status) -> None:
    assert next_status(status, dice, returned_chance=0.1) is following


@pytest.mark.parametrize("status", [Status.REGISTERED, Status.SHIPPED])
@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999])
def test_shipment_moves_on_by_itself_only_to_what_is_allowed(status: Status, dice: float) -> None:
    assert next_status(status, dice, returned_chance=0.1) in status.following


@pytest.mark.parametrize("status", Status)
def test_shipment_ends_delivered_or_returned(status: Status) -> None:
    over = not status.following

    assert over == (status in (Status.DELIVERED, Status.RETURNED))
