"""Shipments through the app: webhooks come in, shipments are read and moved on."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from sdk.loopback_broker import LoopbackBroker
from services.conftest import Build
from services.signed import Webhook, order_created, order_data
from shipping_service import create_app

NAME = "shipping-service"


@pytest.fixture
def client(build: Build) -> FlaskClient:
    """A client of a new shipping service whose shipments stay where they are."""
    return build(create_app, SHIPPING_STEP_S="3600").test_client()


def deliver(client: FlaskClient, webhook: Webhook, **changed: str) -> tuple[int, str | None]:
    """Send a webhook; give status and receipt."""
    headers = webhook.headers() | changed
    answer = client.post("/webhooks/order", data=webhook.body, headers=headers)
    return answer.status_code, answer.headers.get("Webhook-Receipt")


def test_order_becomes_a_registered_shipment(client: FlaskClient) -> None:
    assert deliver(client, order_created(NAME)) == (204, "processed")

    shipment = client.get("/shipments/o-1").get_json()
    assert (shipment["order_id"], shipment["status"]) == ("o-1", "REGISTERED")
    assert client.get("/shipments").get_json() == {"shipments": [shipment], "next": None}


def test_same_webhook_again_is_a_duplicate_and_changes_nothing(
    client: FlaskClient, loopback_broker: LoopbackBroker
) -> None:
    webhook = order_created(NAME)
    deliver(client, webhook)
    before = client.get("/shipments").get_json()

    assert deliver(client, webhook) == (204, "duplicate")

    assert client.get("/shipments").get_json() == before
    client.application.extensions["depot"].outbox.relay_once()
    assert len(loopback_broker.messages["shipment"]) == 1


def test_same_order_in_another_message_gets_no_second_shipment(client: FlaskClient) -> None:
    deliver(client, order_created(NAME))
    before = client.get("/shipments").get_json()

    assert deliver(client, order_created(NAME)) == (204, "processed")

    assert client.get("/shipments").get_json() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("webhook-timestamp", "1000000000"),
        ("webhook-id", "msg_another"),
    ],
)
def test_webhook_with_a_wrong_signature_is_refused(
    client: FlaskClient, name: str, value: str
) -> None:
    assert deliver(client, order_created(NAME), **{name: value}) == (401, None)
    assert client.get("/shipments").get_json()["shipments"] == []


@pytest.mark.parametrize(
    "data", [None, [], {}, {"id": ""}, {"id": 7}, {"id": "a\0"}, {"id": "x" * 200}]
)
def test_message_that_is_no_order_is_dead_lettered(client: FlaskClient, data: object) -> None:
    webhook = Webhook("order.created", "/order-service", data, f"order/{NAME}")

    answer = client.post("/webhooks/order", data=webhook.body, headers=webhook.headers())

    assert answer.headers["Webhook-Verdict"] == "dead-letter"
    assert client.get("/shipments").get_json()["shipments"] == []


def test_other_types_of_the_topic_are_taken_and_left_alone(client: FlaskClient) -> None:
    webhook = Webhook("order.cancelled", "/order-service", order_data(), f"order/{NAME}")

    assert deliver(client, webhook) == (204, "processed")
    assert client.get("/shipments").get_json()["shipments"] == []


def test_shipment_is_moved_on_by_hand_and_tells_each_step(
    client: FlaskClient, loopback_broker: LoopbackBroker
) -> None:
    deliver(client, order_created(NAME))

    shipped = client.post("/shipments/o-1/status", json={"status": "SHIPPED"})
    delivered = client.post("/shipments/o-1/status", json={"status": "DELIVERED"})

    assert (shipped.status_code, shipped.get_json()["status"]) == (200, "SHIPPED")
    assert (delivered.status_code, delivered.get_json()["status"]) == (200, "DELIVERED")
    client.application.extensions["depot"].outbox.relay_once()
    told = [event["data"] for event in loopback_broker.messages["shipment"]]
    assert [data["status"] for data in told] == ["REGISTERED", "SHIPPED", "DELIVERED"]
    assert [data["previous_status"] for data in told] == [None, "REGISTERED", "SHIPPED"]
    assert {data["id"] for data in told} == {delivered.get_json()["id"]}


def test_illegal_step_is_a_conflict_that_names_what_is_allowed(client: FlaskClient) -> None:
    deliver(client, order_created(NAME))

    answer = client.post("/shipments/o-1/status", json={"status": "DELIVERED"})

    assert (answer.status_code, answer.get_json()["code"]) == (409, "illegal_transition")
    assert "can become SHIPPED" in answer.get_json()["detail"]
    assert client.get("/shipments/o-1").get_json()["status"] == "REGISTERED"


@pytest.mark.parametrize("body", [{}, {"status": "LOST"}, {"status": "shipped"}, {"status": None}])
def test_bad_status_is_refused_naming_the_field(client: FlaskClient, body: object) -> None:
    deliver(client, order_created(NAME))

    answer = client.post("/shipments/o-1/status", json=body)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == ["status"]
    assert client.get("/shipments/o-1").get_json()["status"] == "REGISTERED"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/shipments/o-9"), ("POST", "/shipments/o-9/status")]
)
def test_unknown_order_is_not_found(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method, json={"status": "SHIPPED"})

    assert (answer.status_code, answer.get_json()["code"]) == (404, "shipment_not_found")


def test_list_pages_through_all_shipments(client: FlaskClient) -> None:
    for number in range(3):
        deliver(client, order_created(NAME, order_data(f"o-{number}")))

    first = client.get("/shipments?limit=2").get_json()
    second = client.get(f"/shipments?limit=2&after={first['next']}").get_json()

    listed = [shipment["order_id"] for shipment in first["shipments"] + second["shipments"]]
    assert listed == ["o-0", "o-1", "o-2"]
    assert second["next"] is None


@pytest.mark.parametrize(("origin", "status"), [("broker", 204), ("elsewhere.example", 403)])
def test_the_broker_gets_consent_and_another_does_not(
    client: FlaskClient, origin: str, status: int
) -> None:
    headers = {"WebHook-Request-Origin": origin, "webhook-subscription": f"order/{NAME}"}

    answer = client.options("/webhooks/order", headers=headers)

    assert (answer.status_code, answer.headers["WebHook-Allowed-Origin"]) == (status, "broker")
