"""An order becomes a shipment becomes a notification."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from e2e.census import story
from e2e.shop import SUBSCRIPTIONS, Shop
from e2e.stack import Service, Stack
from support.eventually import eventually

pytestmark = pytest.mark.timeout(600)  # the first test waits for the images

CLOCK = r"\d\d:\d\d:\d\d"


def in_log(stack: Stack, order_id: str) -> list[str]:
    """Give the lines that the notification service has printed about an order."""
    return [line for line in stack.logs(Service.NOTIFICATIONS).splitlines() if order_id in line]


@pytest.fixture
def patient_depot(stack: Stack) -> Iterator[None]:
    """Let no shipment move on by itself."""
    stack.restart(Service.SHIPPING, SHIPPING_STEP_S="3600")
    yield
    stack.restart(Service.SHIPPING, SHIPPING_STEP_S="0.2")


@pytest.fixture
def demo_orders(stack: Stack) -> Iterator[None]:
    """Let the order service place orders by itself."""
    stack.restart(Service.ORDERS, DEMO_ORDER_INTERVAL_S="0.2")
    yield
    stack.restart(Service.ORDERS, DEMO_ORDER_INTERVAL_S="0")


@pytest.mark.parametrize("service", list(Service))
def test_service_is_alive_and_ready(stack: Stack, service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        answer = httpx.get(f"{stack.urls[service]}{path}", trust_env=False)
        assert answer.status_code == 200, answer.text


def test_subscriptions_are_there_without_anyone_asking(shop: Shop) -> None:
    for topic, name in SUBSCRIPTIONS:
        assert eventually(partial(shop.subscription, topic, name))["state"] == "active"


def test_order_becomes_one_shipment_and_its_notifications(shop: Shop) -> None:
    order = shop.place(customer_id="c-7", quantity=2, price=27.25)
    assert order["total"] == 54.5

    shipment = shop.await_story(order["id"])
    of_order, of_shipment = story(shipment["status"])
    told = shop.news(order["id"])

    assert shipment["status"] in {"DELIVERED", "RETURNED"}
    assert [each["order_id"] for each in shop.shipments()].count(order["id"]) == 1
    assert sorted(told) == sorted(of_order + of_shipment)
    assert [kind for kind in told if kind in of_shipment] == of_shipment


def test_log_of_notifications_reads_like_a_story(stack: Stack, shop: Shop) -> None:
    order_id = shop.place(customer_id="c-8", item_id="blue mug", quantity=3, price=12.9)["id"]
    shop.await_story(order_id)

    # The order is another topic than the shipment: its line has no fixed place among the others.
    lines = eventually(lambda: found if len(found := in_log(stack, order_id)) >= 4 else None)
    thanks = f'Order {order_id} from customer c-8: 3 × "blue mug" for 38.70 — thank you!'  # noqa: RUF001
    assert [line for line in lines if re.fullmatch(f"{CLOCK} {re.escape(thanks)}", line)]
    for line, words in zip(
        [line for line in lines if "thank you" not in line],
        ["is being packed.", "has shipped.", "(has been delivered|could not be delivered).*"],
        strict=True,
    ):
        assert re.fullmatch(f"{CLOCK} Order {order_id} {words}", line)


# The containers have no other depot, and setting a service anew takes them long.
@pytest.mark.parametrize("running_stack", ["processes"], indirect=True)
@pytest.mark.usefixtures("patient_depot")
def test_shipment_moved_by_hand_is_told(shop: Shop) -> None:
    order_id = shop.place()["id"]
    eventually(lambda: shop.news(order_id).count("shipment.registered"))

    for status in ("SHIPPED", "RETURNED"):
        answer = shop.post(Service.SHIPPING, f"/shipments/{order_id}/status", {"status": status})
        assert answer.status_code == 200, answer.text

    assert shop.await_story(order_id)["status"] == "RETURNED"
    assert [kind for kind in shop.news(order_id) if kind != "order.created"] == story("RETURNED")[1]


@pytest.mark.usefixtures("demo_orders")
def test_demo_orders_flow_by_themselves(shop: Shop) -> None:
    before = len(shop.orders())
    placed = eventually(lambda: found if len(found := shop.orders()[before:]) >= 3 else None)

    for order in placed[:3]:
        shop.await_story(order["id"])
