"""Bad input to any service is refused with every field named, and leaves nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from e2e.shop import Shop
from e2e.stack import Service

pytestmark = pytest.mark.timeout(600)


BAD_ORDERS: list[tuple[Any, set[str]]] = [
    ({}, {"customer_id", "item_id", "quantity", "price"}),
    ({"customer_id": "", "item_id": "mug", "quantity": 1, "price": -1}, {"customer_id", "price"}),
    ({"customer_id": "c-1", "item_id": "mug", "quantity": 0, "price": 1}, {"quantity"}),
    ({"customer_id": "c-1", "item_id": "mug", "quantity": "two", "price": 1}, {"quantity"}),
    ([], {"body"}),
]


def test_bad_order_is_refused_and_leaves_nothing(shop: Shop) -> None:
    orders, messages = shop.orders(), shop.message_count("order")

    for body, fields in BAD_ORDERS:
        assert refused_fields(shop.post(Service.ORDERS, "/orders", body)) == fields, body
    assert shop.orders() == orders

    # The outbox keeps its order: had a refused one left a message, it would be there by now.
    shop.await_story(shop.place()["id"])
    assert shop.message_count("order") == messages + 1


def test_bad_status_is_refused_and_leaves_nothing(shop: Shop) -> None:
    order_id = shop.place()["id"]
    shipment, messages = shop.await_story(order_id), shop.message_count("shipment")
    path = f"/shipments/{order_id}/status"

    assert refused_fields(shop.post(Service.SHIPPING, path, {"status": "LOST"})) == {"status"}
    assert shop.post(Service.SHIPPING, path, {"status": "SHIPPED"}).status_code == 409
    assert shop.get(Service.SHIPPING, f"/shipments/{order_id}") == shipment

    shop.await_story(shop.place()["id"])
    assert shop.message_count("shipment") == messages + 3


@pytest.mark.parametrize("limit", ["0", "many"])
@pytest.mark.parametrize(
    ("service", "path"),
    [
        (Service.ORDERS, "/orders"),
        (Service.SHIPPING, "/shipments"),
        (Service.NOTIFICATIONS, "/notifications"),
    ],
)
def test_bad_page_is_refused(shop: Shop, service: Service, path: str, limit: str) -> None:
    assert refused_fields(shop.raw_get(service, path, limit=limit)) == {"limit"}


def refused_fields(answer: httpx.Response) -> set[str]:
    """Check that an answer is a refusal of what was sent, and give the fields it names."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["field"] for error in answer.json()["errors"]}
