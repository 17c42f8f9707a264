"""Subscriptions come into being, and come back, whatever the broker does."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from broker_client import Event, Inbox, Retry
from broker_client.flask_ext import Guarantee, Subscriber
from broker_client.secret_table import ensure_secret
from broker_client.signatures import is_secret
from broker_client.subscriptions import SubscriptionKeeper, WantedSubscription
from broker_client.transport import Transport
from sdk.databases import Site
from sdk.loopback_broker import AWAY, LoopbackBroker, refusal
from sdk.webhook import SECRET, binary, signed
from support.eventually import eventually

ORDER = "/v1/topics/order/subscriptions/shop"
SHIPMENT = "/v1/topics/shipment/subscriptions/shop"


@pytest.fixture
def app(broker: LoopbackBroker) -> Flask:
    made = Flask("shop")
    made.config.from_mapping(BROKER_URL=broker.url, BROKER_WEBHOOK_URL="http://shop:5000")
    return made


@contextmanager
def subscribing(app: Flask, site: Site, guarantee: Guarantee | None = None) -> Iterator[Subscriber]:
    subscriber = Subscriber(app, inbox=Inbox(site.engine), guarantee=guarantee)
    try:
        yield subscriber
    finally:
        subscriber.stop()


@contextmanager
def keeping(
    broker: LoopbackBroker, *wanted: WantedSubscription, renew_s: float = 0.02
) -> Iterator[SubscriptionKeeper]:
    keeper = SubscriptionKeeper(
        Transport(broker.url), wanted=lambda: wanted, secret=lambda: SECRET, renew_s=renew_s
    )
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()


def do_nothing(event: object, session: object) -> None:
    """Handle an event."""


def test_a_subscription_is_created_for_each_topic(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site
) -> None:
    app.config["BROKER_WEBHOOK_SECRET"] = SECRET
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        subscriber.on("shipment", start="now", max_in_flight=1)(do_nothing)
        eventually(lambda: subscriber.ready)

    assert broker.subscriptions == {
        ORDER: {
            "endpoint": "http://shop:5000/webhooks/order",
            "start": "beginning",
            "ordering": "key",
            "guarantee": "exactly-once",
            "secret": SECRET,
        },
        SHIPMENT: {
            "endpoint": "http://shop:5000/webhooks/shipment",
            "start": "now",
            "ordering": "key",
            "guarantee": "exactly-once",
            "max_in_flight": 1,
            "secret": SECRET,
        },
    }


def test_the_subscribers_name_and_key_are_used(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site
) -> None:
    app.config.from_mapping(BROKER_SUBSCRIBER_NAME="audit", BROKER_API_KEY="k")
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        eventually(lambda: subscriber.ready)

    assert list(broker.subscriptions) == ["/v1/topics/order/subscriptions/audit"]
    assert broker.requests[0].headers["authorization"] == "Bearer k"


def test_a_subscriber_is_not_ready_before_the_broker_is_there(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site
) -> None:
    broker.before = lambda request: AWAY
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        eventually(lambda: len(broker.requests) >= 3)
        assert not subscriber.ready

        broker.before = lambda request: None
        eventually(lambda: subscriber.ready)
    assert list(broker.subscriptions) == [ORDER]


def test_a_refused_subscription_holds_up_no_other(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    broker.before = lambda request: (
        refusal(422, "invalid", "not this one") if "/order/" in request.path else None
    )
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        subscriber.on("shipment")(do_nothing)
        eventually(lambda: SHIPMENT in broker.subscriptions)
        eventually(lambda: "not this one" in caplog.text)
        assert not subscriber.ready


def test_a_lost_subscription_comes_back(
    broker: LoopbackBroker, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = WantedSubscription("order", "shop", {"endpoint": "http://shop/"})
    with caplog.at_level(logging.INFO, "broker_client"), keeping(broker, wanted) as keeper:
        eventually(lambda: keeper.ready)
        asked = len(broker.requests)
        eventually(lambda: len(broker.requests) >= asked + 3)
        broker.subscriptions.clear()
        eventually(lambda: ORDER in broker.subscriptions)
        eventually(lambda: len(caplog.records) >= 2)

    assert [record.message for record in caplog.records] == [
        "Subscription shop of topic order is created"
    ] * 2


def test_a_subscription_that_was_there_is_logged_as_such(
    broker: LoopbackBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.subscriptions[ORDER] = {}
    with (
        caplog.at_level(logging.INFO, "broker_client"),
        keeping(broker, WantedSubscription("order", "shop", {})) as keeper,
    ):
        eventually(lambda: keeper.ready)
        eventually(lambda: caplog.records)

    assert "is there" in caplog.text


def test_readiness_outlasts_a_broker_that_goes_away(broker: LoopbackBroker) -> None:
    with keeping(broker, WantedSubscription("order", "shop", {})) as keeper:
        eventually(lambda: keeper.ready)
        broker.before = lambda request: AWAY
        asked = len(broker.requests)
        eventually(lambda: len(broker.requests) >= asked + 2)

        assert keeper.ready


def _stay_ready(subscriber: Subscriber) -> None:
    assert subscriber.ready
    threading.Event().wait()


def test_a_child_process_subscribes_by_itself(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site
) -> None:
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        eventually(lambda: subscriber.ready)
        asked = len(broker.requests)
        sqlite_site.engine.dispose()

        child = multiprocessing.get_context("fork").Process(target=_stay_ready, args=(subscriber,))
        child.start()
        try:
            eventually(lambda: len(broker.requests) > asked)
        finally:
            child.kill()
            child.join()


def test_binding_another_app_ends_the_first_ones_subscribing(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site
) -> None:
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        other = Flask("other")
        other.config.from_mapping(app.config, BROKER_SUBSCRIBER_NAME="other")
        subscriber.init_app(other)
        eventually(lambda: "/v1/topics/order/subscriptions/other" in broker.subscriptions)
        threads = [each for each in threading.enumerate() if each.name == "subscriptions"]
        assert len(threads) == 1


# -- the guarantee --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_all", "of_one", "asked"),
    [
        (None, {}, "exactly-once"),
        ("exactly-once", {}, "exactly-once"),
        ("at-least-once", {}, "at-least-once"),
        (None, {"guarantee": "at-most-once"}, "at-most-once"),
        ("at-least-once", {"guarantee": "exactly-once"}, "exactly-once"),
    ],
)
def test_the_guarantee_is_exactly_once_unless_chosen(
    of_all: Any,
    of_one: dict[str, str],
    asked: str,
    app: Flask,
    broker: LoopbackBroker,
    sqlite_site: Site,
) -> None:
    with subscribing(app, sqlite_site, guarantee=of_all) as subscriber:
        subscriber.on("order", **of_one)(do_nothing)
        eventually(lambda: subscriber.ready)

    assert broker.subscriptions[ORDER]["guarantee"] == asked


def test_the_guarantee_is_at_least_once_without_an_inbox(
    app: Flask, broker: LoopbackBroker
) -> None:
    app.config["BROKER_WEBHOOK_SECRET"] = SECRET
    subscriber = Subscriber(app)
    try:
        subscriber.on("order")(do_nothing)
        eventually(lambda: subscriber.ready)
    finally:
        subscriber.stop()

    assert broker.subscriptions[ORDER]["guarantee"] == "at-least-once"


def test_an_old_broker_is_asked_for_less(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    broker.old = True
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        eventually(lambda: subscriber.ready)

    assert "guarantee" not in broker.subscriptions[ORDER]
    assert "goes without guarantee=exactly-once" in caplog.text


def test_an_old_broker_that_is_replaced_is_asked_again(
    broker: LoopbackBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.old = True
    wanted = WantedSubscription("order", "shop", {}, {"guarantee": "exactly-once"})
    with keeping(broker, wanted) as keeper:
        eventually(lambda: keeper.ready)
        asked = len(broker.requests)
        eventually(lambda: len(broker.requests) >= asked + 6)
        assert not keeper.reads_verdicts("order", "shop")

        broker.old = False
        eventually(lambda: broker.subscriptions[ORDER].get("guarantee") == "exactly-once")
        eventually(lambda: keeper.reads_verdicts("order", "shop"))
    assert caplog.text.count("goes without") == 1


@pytest.mark.parametrize(
    ("of_all", "of_one"),
    [("exactly-once", {}), (None, {"guarantee": "exactly-once"}), (None, {"allow_later": True})],
)
def test_what_an_application_asks_for_itself_is_insisted_on(
    of_all: Any,
    of_one: dict[str, Any],
    app: Flask,
    broker: LoopbackBroker,
    sqlite_site: Site,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker.old = True
    with subscribing(app, sqlite_site, guarantee=of_all) as subscriber:
        subscriber.on("order", **of_one)(do_nothing)
        eventually(lambda: "not in this version" in caplog.text)
        assert not subscriber.ready
        assert broker.subscriptions == {}

        broker.old = False
        eventually(lambda: subscriber.ready)


def test_a_fault_of_the_applications_own_is_told_by_an_old_broker_too(
    broker: LoopbackBroker, caplog: pytest.LogCaptureFixture
) -> None:
    both = [{"field": "guarantee", "message": "no"}, {"field": "format", "message": "no such"}]
    broker.before = lambda request: refusal(422, "invalid_request", errors=both)
    wanted = WantedSubscription("order", "shop", {"format": "x"}, {"guarantee": "exactly-once"})
    with keeping(broker, wanted):
        eventually(lambda: "format: no such" in caplog.text)

    assert all("guarantee" in request.document for request in broker.requests)


@pytest.mark.parametrize(("old", "status"), [(True, 409), (False, 200)])
def test_a_verdict_is_answered_as_the_broker_can_read_it(
    old: bool, status: int, app: Flask, broker: LoopbackBroker, sqlite_site: Site
) -> None:
    broker.old = old
    app.config["BROKER_WEBHOOK_SECRET"] = SECRET
    inbox = Inbox(sqlite_site.engine)
    inbox.create_tables()
    subscriber = Subscriber(app, inbox=inbox)

    @subscriber.on("order")
    def handle(event: Event, connection: object) -> None:
        raise Retry(after_s=3)

    def answered() -> tuple[int, str | None]:
        webhook = signed(binary(Event(type="t", source="/s")))
        answer = app.test_client().post(
            "/webhooks/order", data=webhook.body, headers=dict(webhook.headers)
        )
        return answer.status_code, answer.headers.get("Webhook-Verdict")

    try:
        eventually(lambda: subscriber.ready)
        assert answered() == (status, "retry")
    finally:
        subscriber.stop()


# -- the secret ------------------------------------------------------------------------------------


def test_a_secret_is_made_once_and_kept(site: Site) -> None:
    inbox = Inbox(site.engine)
    first = ensure_secret(inbox.database, "shop")

    assert is_secret(first)
    assert ensure_secret(Inbox(site.connect).database, "shop") == first
    assert ensure_secret(inbox.database, "another") != first


def test_many_who_start_at_once_share_one_secret(site: Site) -> None:
    found: list[str] = []
    barrier = threading.Barrier(6)

    def ensure() -> None:
        barrier.wait()
        found.append(ensure_secret(Inbox(site.connect).database, "shop"))

    threads = [threading.Thread(target=ensure) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 6
    assert len(set(found)) == 1


def test_the_secret_is_stored_before_it_is_told(
    app: Flask, broker: LoopbackBroker, sqlite_site: Site
) -> None:
    stored: list[list[tuple[str, ...]]] = []
    broker.before = lambda request: stored.append(
        sqlite_site.rows("SELECT secret FROM subscriber_secret")
    )
    with subscribing(app, sqlite_site) as subscriber:
        subscriber.on("order")(do_nothing)
        eventually(lambda: subscriber.ready)

    assert stored[0] == [(broker.subscriptions[ORDER]["secret"],)]
