"""Notifications through the app: one an event, kept, and told in the log once committed."""

from __future__ import annotations

import logging

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from notification_service import create_app
from services.conftest import Build
from services.signed import Webhook, order_created, order_data, shipment_changed

NAME = "notification-service"


@pytest.fixture
def client(build: Build) -> FlaskClient:
    """A client of a new notification service that sends nothing."""
    return build(create_app).test_client()


def deliver(client: FlaskClient, webhook: Webhook) -> tuple[int, str | None]:
    """Send a webhook; give status and receipt."""
    topic = webhook.subscription.partition("/")[0]
    answer = client.post(f"/webhooks/{topic}", data=webhook.body, headers=webhook.headers())
    return answer.status_code, answer.headers.get("Webhook-Receipt")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The story so far."""
    return [r.getMessage() for r in caplog.records if getattr(r, "action", None) == "notify"]


def test_order_and_shipment_become_a_story(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    deliver(client, order_created(NAME))
    for status in ("REGISTERED", "SHIPPED", "DELIVERED"):
        assert deliver(client, shipment_changed(status)) == (204, "processed")

    kept = client.get("/notifications").get_json()["notifications"]
    assert [each["event_type"] for each in kept] == [
        "order.created",
        "shipment.registered",
        "shipment.shipped",
        "shipment.delivered",
    ]
    assert [each["text"] for each in kept] == told(caplog)
    assert told(caplog)[2] == "Order o-1 has shipped."


def test_same_webhook_again_is_a_duplicate_and_told_once(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    webhook = order_created(NAME)

    assert deliver(client, webhook) == (204, "processed")
    assert deliver(client, webhook) == (204, "duplicate")

    assert len(client.get("/notifications").get_json()["notifications"]) == 1
    assert len(told(caplog)) == 1


def test_notification_that_is_not_stored_is_not_told(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    webhook = order_created(NAME)
    database = client.application.extensions["database"]
    with database.write() as session:
        session.execute(text("ALTER TABLE notification RENAME TO away"))

    assert deliver(client, webhook) == (500, None)
    assert told(caplog) == []

    with database.write() as session:
        session.execute(text("ALTER TABLE away RENAME TO notification"))
    assert deliver(client, webhook) == (204, "processed")
    assert len(told(caplog)) == 1


def test_notifications_are_listed_by_order_and_in_pages(client: FlaskClient) -> None:
    for number in (1, 2, 1):
        deliver(client, order_created(NAME, order_data(f"o-{number}")))

    of_one = client.get("/notifications?order_id=o-1").get_json()["notifications"]
    first = client.get("/notifications?limit=2").get_json()
    second = client.get(f"/notifications?limit=2&after={first['next']}").get_json()

    assert [each["order_id"] for each in of_one] == ["o-1", "o-1"]
    listed = [each["order_id"] for each in first["notifications"] + second["notifications"]]
    assert listed == ["o-1", "o-2", "o-1"]
    assert second["next"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "after=x"])
def test_bad_page_is_refused_naming_the_field(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/notifications?{query}")

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == query.partition("=")[0]


def test_webhook_for_a_topic_it_does_not_follow_is_not_found(client: FlaskClient) -> None:
    webhook = Webhook("invoice.sent", "/test", {}, f"invoice/{NAME}")

    assert deliver(client, webhook) == (404, None)


def test_message_with_nothing_to_tell_is_dead_lettered(client: FlaskClient) -> None:
    webhook = order_created(NAME, {"id": "o-1"})

    answer = client.post("/webhooks/order", data=webhook.body, headers=webhook.headers())

    assert answer.headers["Webhook-Verdict"] == "dead-letter"
    assert client.get("/notifications").get_json()["notifications"] == []


@pytest.mark.parametrize(("origin", "status"), [("broker", 204), ("elsewhere.example", 403)])
def test_the_broker_gets_consent_and_another_does_not(
    client: FlaskClient, origin: str, status: int
) -> None:
    headers = {"WebHook-Request-Origin": origin, "webhook-subscription": f"order/{NAME}"}

    answer = client.options("/webhooks/order", headers=headers)

    assert (answer.status_code, answer.headers["WebHook-Allowed-Origin"]) == (status, "broker")
