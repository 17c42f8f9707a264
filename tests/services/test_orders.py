"""Orders through the app: taken exactly, refused with every fault named, told once."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from werkzeug.test import TestResponse

from order_service import create_app
from order_service.models import Order
from order_service.orders import NewOrder, Orders
from sdk.loopback_broker import LoopbackBroker
from services.conftest import Build

GOOD = {"customer_id": "c-17", "item_id": "blue mug", "quantity": 2, "price": 12.9}


@pytest.fixture
def client(build: Build) -> FlaskClient:
    """A client of a new order service."""
    return build(create_app).test_client()


def orders_of(client: FlaskClient) -> Orders:
    book: Orders = client.application.extensions["orders"]
    return book


def relay(client: FlaskClient) -> int:
    """Publish what the outbox holds."""
    return orders_of(client).outbox.relay_once()


def order_with(client: FlaskClient, **fields: Any) -> TestResponse:
    return client.post("/orders", json=GOOD | fields)


def test_order_is_answered_with_id_total_and_location(client: FlaskClient) -> None:
    answer = order_with(client)

    assert answer.status_code == 201
    order = answer.get_json()
    assert order == GOOD | {"id": order["id"], "total": 25.8, "created_at": order["created_at"]}
    assert answer.headers["Location"] == f"/orders/{order['id']}"
    assert client.get(answer.headers["Location"]).get_json() == order


@pytest.mark.parametrize(
    ("price", "cents"),
    [(0.01, 1), ("0.10", 10), (19.99, 1999), ("1e2", 10_000), (1_000_000, 10**8)],
)
def test_price_is_stored_to_the_cent(client: FlaskClient, price: object, cents: int) -> None:
    order_id = order_with(client, price=price).get_json()["id"]

    order = orders_of(client).find(order_id)
    assert order is not None
    assert order.price_cents == cents


@given(cents=st.integers(1, 10**9), quantity=st.integers(1, 10**6))
def test_money_in_an_answer_is_the_exact_decimal(cents: int, quantity: int) -> None:
    order = Order(id="o", customer_id="c", item_id="i", quantity=quantity, price_cents=cents)
    order.created_at = 0

    answer = json.loads(json.dumps(order.to_dict()), parse_float=Decimal)

    assert answer["price"] == Decimal(cents) / 100
    assert answer["total"] == Decimal(cents * quantity) / 100


@given(cents=st.integers(1, 10**9), as_text=st.booleans())
def test_price_with_two_decimals_is_accepted_as_number_or_text(cents: int, as_text: bool) -> None:
    price = Decimal(cents) / 100
    body = json.dumps(GOOD | {"price": str(price) if as_text else float(price)})

    assert NewOrder.model_validate_json(body).price == price


@pytest.mark.parametrize(
    ("fields", "faulty"),
    [
        ({"quantity": 0}, ["quantity"]),
        ({"quantity": "2"}, ["quantity"]),
        ({"quantity": True}, ["quantity"]),
        ({"quantity": 1.5}, ["quantity"]),
        ({"price": 0}, ["price"]),
        ({"price": -1}, ["price"]),
        ({"price": 12.905}, ["price"]),
        ({"price": "NaN"}, ["price"]),
        ({"price": "cheap"}, ["price"]),
        ({"price": None}, ["price"]),
        ({"customer_id": "  "}, ["customer_id"]),
        ({"customer_id": "two\nlines"}, ["customer_id"]),
        ({"item_id": "x" * 129}, ["item_id"]),
        ({"item_id": ["mug"], "price": 1e9, "quantity": -1}, ["item_id", "quantity", "price"]),
    ],
)
def test_bad_order_is_refused_naming_each_field_and_stores_nothing(
    client: FlaskClient, fields: dict[str, object], faulty: list[str]
) -> None:
    answer = order_with(client, **fields)

    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["status"] == 422
    assert answer.get_json()["code"] == "invalid_request"
    assert [error["field"] for error in answer.get_json()["errors"]] == faulty
    assert all(error["message"] for error in answer.get_json()["errors"])
    assert client.get("/orders").get_json()["orders"] == []
    assert relay(client) == 0


def test_order_without_any_field_is_refused_naming_all(client: FlaskClient) -> None:
    answer = client.post("/orders", json={})

    fields = [error["field"] for error in answer.get_json()["errors"]]
    assert fields == ["customer_id", "item_id", "quantity", "price"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_json"),
        (b"", "application/json", 400, "malformed_json"),
        (b"\xff", "application/json", 400, "malformed_json"),
        (b"[]", "application/json", 422, "invalid_request"),
        (json.dumps(GOOD).encode(), "text/plain", 415, "unsupported_media_type"),
        (b"a=b", None, 415, "unsupported_media_type"),
        (b" " * 70_000, "application/json", 413, "request_entity_too_large"),
    ],
)
def test_body_that_is_no_json_object_is_refused(
    client: FlaskClient, body: bytes, content_type: str | None, status: int, code: str
) -> None:
    answer = client.post("/orders", data=body, content_type=content_type)

    assert (answer.status_code, answer.get_json()["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert client.get("/orders").get_json()["orders"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/orders/none-such", 404, "order_not_found"),
        ("GET", "/none-such", 404, "not_found"),
        ("DELETE", "/orders", 405, "method_not_allowed"),
        ("GET", "/orders/a%00b", 400, "malformed_url"),
        ("GET", "/orders?after=a%00b", 400, "malformed_url"),
        ("GET", "/orders?limit=0", 422, "invalid_request"),
        ("GET", "/orders?limit=many", 422, "invalid_request"),
    ],
)
def test_what_is_not_there_is_answered_with_a_problem(
    client: FlaskClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.open(path, method=method)

    assert (answer.status_code, answer.get_json()["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"


def test_failure_inside_is_answered_without_a_trace(client: FlaskClient) -> None:
    with orders_of(client).database.write() as session:
        session.execute(text("DROP TABLE orders"))
    client.application.config["PROPAGATE_EXCEPTIONS"] = False

    answer = order_with(client)

    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal_server_error")
    assert "orders" not in answer.text


def test_list_pages_through_all_orders_oldest_first(client: FlaskClient) -> None:
    placed = {order_with(client).get_json()["id"] for _ in range(5)}

    pages: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        page = client.get(f"/orders?limit=2&after={after}").get_json()
        pages.append([order["id"] for order in page["orders"]])
        after = page["next"]

    assert [len(page) for page in pages] == [2, 2, 1]
    listed = [order_id for page in pages for order_id in page]
    assert listed == sorted(placed)


def test_order_is_published_whole_under_its_own_key(
    client: FlaskClient, loopback_broker: LoopbackBroker
) -> None:
    order = order_with(client).get_json()

    assert relay(client) == 1

    [event] = loopback_broker.messages["order"]
    assert (event["type"], event["source"]) == ("order.created", "/order-service")
    assert event["partitionkey"] == event["subject"] == order["id"]
    assert event["data"] == order
    assert relay(client) == 0


def test_order_and_its_message_are_stored_together_or_not_at_all(client: FlaskClient) -> None:
    with orders_of(client).database.write() as session:
        session.execute(text("DROP TABLE outbox"))
    client.application.config["PROPAGATE_EXCEPTIONS"] = False

    assert order_with(client).status_code == 500

    assert client.get("/orders").get_json()["orders"] == []


def test_health_answers_while_the_database_is_reached(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "alive"}
    assert client.get("/readyz").get_json() == {"status": "ready"}
