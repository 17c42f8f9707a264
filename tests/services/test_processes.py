"""The services as gunicorn processes: they start together, work with two workers, stop, survive."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest

from sdk.loopback_broker import AWAY, Json, LoopbackBroker
from services.conftest import StartService
from services.gunicorn_process import GunicornProcess
from services.mail import MailServer
from services.signed import SECRET, Webhook, order_created, order_data, shipment_changed
from support.eventually import eventually
from support.workers import terminate_each_at_once

SERVICES = ["order_service", "shipping_service", "notification_service"]
ORDER = {"customer_id": "c-17", "item_id": "blue mug", "quantity": 2, "price": "12.90"}
STOP_S = 10.0


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """A client that keeps its connections open."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


def deliver(http: httpx.Client, service: GunicornProcess, webhook: Webhook) -> httpx.Response:
    """Send a webhook to a service."""
    topic = webhook.subscription.partition("/")[0]
    url = f"{service.url}/webhooks/{topic}"
    return http.post(url, content=webhook.body, headers=webhook.headers())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_order_service_takes_and_publishes_orders(
    start_service: StartService,
    http: httpx.Client,
    loopback_broker: LoopbackBroker,
    database_url: str,
    workers: str,
) -> None:
    service = start_service("order_service", WEB_CONCURRENCY=workers, DATABASE_URL=database_url)

    placed = [http.post(f"{service.url}/orders", json=ORDER) for _ in range(20)]

    assert {answer.status_code for answer in placed} == {201}
    ids = [answer.json()["id"] for answer in placed]
    eventually(lambda: len(loopback_broker.ids()) == 20)
    assert [event["subject"] for event in loopback_broker.messages["order"]] == ids


@pytest.mark.parametrize("workers", ["1", "2"])
def test_shipping_service_ships_by_itself(
    start_service: StartService,
    http: httpx.Client,
    loopback_broker: LoopbackBroker,
    database_url: str,
    workers: str,
) -> None:
    settings = {"WEB_CONCURRENCY": workers, "DATABASE_URL": database_url}
    service = start_service("shipping_service", SHIPPING_STEP_S="0.1", **settings)
    orders = [f"o-{number}" for number in range(10)]

    for order_id in orders:
        webhook = order_created("shipping-service", order_data(order_id))
        answers = [deliver(http, service, webhook) for _ in range(2)]
        receipts = [answer.headers["Webhook-Receipt"] for answer in answers]
        assert receipts == ["processed", "duplicate"]

    told = eventually(lambda: _complete(loopback_broker, 3 * len(orders)))
    for order_id in orders:
        steps = [event["data"]["status"] for event in told if event["subject"] == order_id]
        assert steps[:2] == ["REGISTERED", "SHIPPED"]
        assert steps[2] in ("DELIVERED", "RETURNED")


def _complete(broker: LoopbackBroker, count: int) -> list[Json] | None:
    told = broker.messages.get("shipment", [])
    return list(told) if len(told) == count else None


@pytest.mark.parametrize("workers", ["1", "2"])
def test_notification_service_tells_the_story_in_its_log(
    start_service: StartService, http: httpx.Client, workers: str
) -> None:
    service = start_service("notification_service", WEB_CONCURRENCY=workers)

    for webhook in (order_created("notification-service"), shipment_changed("SHIPPED")):
        answers = [deliver(http, service, webhook) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [204, 204]

    kept = http.get(f"{service.url}/notifications?order_id=o-1").json()["notifications"]
    texts = [each["text"] for each in kept]
    assert texts == [
        'Order o-1 from customer c-17: 2 × "blue mug" for 25.80 — thank you!',  # noqa: RUF001
        "Order o-1 has shipped.",
    ]
    lines = [line for line in service.log().splitlines() if "Order o-1" in line]
    assert [line.partition(" ")[2] for line in lines] == texts


def test_notification_service_logs_json_when_told_so(
    start_service: StartService, http: httpx.Client
) -> None:
    service = start_service("notification_service", LOG_FORMAT="json")

    deliver(http, service, shipment_changed("SHIPPED"))

    service.stop()
    lines = [json.loads(line) for line in service.log().splitlines()]
    [told] = [line for line in lines if line.get("action") == "notify"]
    assert told["message"] == "Order o-1 has shipped."
    assert (told["level"], told["order_id"]) == ("info", "o-1")


@pytest.mark.parametrize("package", SERVICES)
def test_every_line_is_json_when_told_so(start_service: StartService, package: str) -> None:
    service = start_service(package, LOG_FORMAT="json", DEMO_ORDER_INTERVAL_S="0.1")
    if package == "order_service":
        eventually(lambda: "order_placed" in service.log())
    service.stop()

    lines = [json.loads(line) for line in service.log().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    placed = [line for line in lines if line.get("action") == "order_placed"]
    assert all(line["order_id"] in line["message"] for line in placed)
    assert {line["level"] for line in placed} <= {"info"}


def test_notification_service_sends_mail(start_service: StartService, http: httpx.Client) -> None:
    with MailServer() as mail:
        service = start_service(
            "notification_service", NOTIFY_URLS=mail.notify_url, WEB_CONCURRENCY="2"
        )
        for status in ("REGISTERED", "SHIPPED", "DELIVERED"):
            deliver(http, service, shipment_changed(status))

        eventually(lambda: len(mail.mails) == 3)
        kept = eventually(lambda: _all_sent(http, service))
        assert len(kept) == 3
        assert len(mail.mails) == 3


def _all_sent(http: httpx.Client, service: GunicornProcess) -> list[object] | None:
    kept = http.get(f"{service.url}/notifications").json()["notifications"]
    states = {sending["state"] for each in kept for sending in each["sendings"]}
    return list(kept) if states == {"sent"} else None


@pytest.mark.parametrize("package", SERVICES)
def test_workers_that_start_together_share_a_new_database(
    start_service: StartService, database_url: str, package: str
) -> None:
    service = start_service(package, WEB_CONCURRENCY="4", DATABASE_URL=database_url)

    eventually(lambda: service.log().count("Booting worker") >= 4)
    assert service.stop() == 0
    assert service.log().count("Booting worker") == 4, "a worker died and was started again"
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("package", SERVICES)
def test_service_stops_in_time_with_a_connection_open(
    start_service: StartService, http: httpx.Client, package: str
) -> None:
    service = start_service(package, WEB_CONCURRENCY="2")
    assert http.get(f"{service.url}/healthz").status_code == 200

    began = time.monotonic()
    assert service.stop() == 0

    assert time.monotonic() - began < STOP_S, "it was killed rather than stopped"
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("package", SERVICES)
def test_worker_heeds_a_sigterm_that_comes_as_soon_as_it_is_there(
    start_service: StartService, package: str
) -> None:
    service = start_service(package, WEB_CONCURRENCY="1")

    terminate_each_at_once(service.process.pid, count=5)

    assert service.stop() == 0
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("package", SERVICES[1:])
def test_consumer_is_ready_once_its_subscriptions_exist(
    launch_service: StartService, http: httpx.Client, loopback_broker: LoopbackBroker, package: str
) -> None:
    loopback_broker.before = lambda request: AWAY
    service = launch_service(package)
    refused = eventually(lambda: _answer(http, service))
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
    assert "subscriptions" in refused.json()["detail"]

    loopback_broker.before = lambda request: None

    eventually(lambda: http.get(f"{service.url}/readyz").status_code == 200)
    topics = {path.split("/")[3] for path in loopback_broker.subscriptions}
    assert topics == ({"order"} if package == "shipping_service" else {"order", "shipment"})
    for subscription in loopback_broker.subscriptions.values():
        assert subscription["guarantee"] == "exactly-once"
        assert subscription["start"] == "beginning"
        assert subscription["secret"] == SECRET


def _answer(http: httpx.Client, service: GunicornProcess) -> httpx.Response | None:
    try:
        return http.get(f"{service.url}/readyz")
    except httpx.TransportError:
        return None


def test_order_survives_a_kill_before_the_broker_is_back(
    start_service: StartService, http: httpx.Client, loopback_broker: LoopbackBroker
) -> None:
    loopback_broker.before = lambda request: AWAY
    service = start_service("order_service")
    ids = [http.post(f"{service.url}/orders", json=ORDER).json()["id"] for _ in range(5)]
    service.kill()
    assert loopback_broker.ids() == []

    loopback_broker.before = lambda request: None
    service.start()

    eventually(lambda: len(loopback_broker.ids()) == 5)
    assert [event["subject"] for event in loopback_broker.messages["order"]] == ids


def test_shipment_moves_on_after_a_kill(
    start_service: StartService, http: httpx.Client, loopback_broker: LoopbackBroker
) -> None:
    service = start_service("shipping_service", SHIPPING_STEP_S="2")
    deliver(http, service, order_created("shipping-service"))
    service.kill()

    service.start()

    eventually(lambda: len(loopback_broker.ids("shipment")) == 3)
    status = http.get(f"{service.url}/shipments/o-1").json()["status"]
    assert status in ("DELIVERED", "RETURNED")


def test_two_workers_place_each_demo_order_once(
    start_service: StartService, http: httpx.Client
) -> None:
    service = start_service("order_service", WEB_CONCURRENCY="2", DEMO_ORDER_INTERVAL_S="0.3")

    orders = eventually(lambda: _at_least(http, service, 6))

    placed_at = sorted(order["created_at"] for order in orders)
    seconds = [float(at.rpartition(":")[2].rstrip("Z")) for at in placed_at]
    gaps = [(later - earlier) % 60 for earlier, later in pairwise(seconds)]
    assert min(gaps) >= 0.298, "two workers placed an order for one interval"


def _at_least(http: httpx.Client, service: GunicornProcess, count: int) -> list[dict[str, str]]:
    orders: list[dict[str, str]] = http.get(f"{service.url}/orders").json()["orders"]
    return orders if len(orders) >= count else []
