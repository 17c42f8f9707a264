"""The Flask extension, request by request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from broker_client import DeadLetter, Event, Inbox, Retry
from broker_client.delivery import Delivery
from broker_client.flask_ext import Subscriber
from sdk.databases import Site
from sdk.loopback_broker import LoopbackBroker
from sdk.webhook import SECRET, Webhook, batch, binary, signed, structured


def event(id: str = "a-1", *, key: str | None = None, type: str = "order.created") -> Event:
    return Event(type=type, source="/shop", id=id, partitionkey=key, data={"order_id": 7})


@pytest.fixture
def app() -> Flask:
    made = Flask("shop")
    made.config.from_mapping(BROKER_SUBSCRIBE=False, BROKER_WEBHOOK_SECRET=SECRET)
    return made


@pytest.fixture
def subscriber(app: Flask, site: Site) -> Subscriber:
    inbox = Inbox(site.engine)
    inbox.create_tables()
    site.write("CREATE TABLE effect (event_id TEXT)")
    return Subscriber(app, inbox=inbox, transaction=site.sessions.begin)


def write_effect(event: Event, session: Session) -> None:
    session.execute(text("INSERT INTO effect VALUES (:id)"), {"id": event.id})


def effects(site: Site) -> list[str]:
    return [id for (id,) in site.rows("SELECT event_id FROM effect ORDER BY event_id")]


def from_elsewhere(webhook: Webhook) -> Webhook:
    """Take away what only the broker says."""
    extra = ("webhook-subscription", "webhook-attempt", "ce-sequence")
    headers = {name: value for name, value in webhook.headers.items() if name not in extra}
    return Webhook(headers, webhook.body)


def post(app: Flask, webhook: Webhook, topic: str = "order") -> TestResponse:
    return app.test_client().post(
        f"/webhooks/{topic}", data=webhook.body, headers=dict(webhook.headers)
    )


# -- one event -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [binary, structured])
def test_an_event_is_handled_with_its_effects(
    mode: Callable[[Event], Webhook], app: Flask, subscriber: Subscriber, site: Site
) -> None:
    seen: list[Event] = []

    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        seen.append(event)
        write_effect(event, session)

    response = post(app, signed(mode(event())))

    assert response.status_code == 204
    assert response.headers["Webhook-Receipt"] == "processed"
    assert [(each.id, each.data, each.extensions) for each in seen] == [
        ("a-1", {"order_id": 7}, {})
    ]
    assert effects(site) == ["a-1"]


def test_a_repeat_is_acknowledged_and_not_handled(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    subscriber.on("order")(write_effect)
    post(app, signed(binary(event())))

    response = post(app, signed(binary(event()), attempt=2))

    assert (response.status_code, response.headers["Webhook-Receipt"]) == (204, "duplicate")
    assert effects(site) == ["a-1"]


def test_a_failed_handler_leaves_nothing_and_is_tried_again(
    app: Flask, subscriber: Subscriber, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("the secret inside")]

    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        write_effect(event, session)
        if failures:
            raise failures.pop()

    response = post(app, signed(binary(event())))
    assert response.status_code == 500
    assert response.content_type == "application/problem+json"
    assert "secret" not in response.text
    assert "a-1" in caplog.text
    assert effects(site) == []

    assert post(app, signed(binary(event()))).headers["Webhook-Receipt"] == "processed"
    assert effects(site) == ["a-1"]


def test_a_commit_that_fails_is_tried_again(app: Flask, site: Site) -> None:
    @contextmanager
    def cannot_commit() -> Iterator[Session]:
        with site.sessions() as session:
            yield session
            raise RuntimeError("the disk is full")

    inbox = Inbox(site.engine)
    inbox.create_tables()
    Subscriber(app, inbox=inbox, transaction=cannot_commit).on("order")(lambda event, session: None)

    assert post(app, signed(binary(event()))).status_code == 500
    assert site.rows("SELECT id FROM inbox") == []


def test_a_transaction_that_never_commits_gets_no_receipt(
    app: Flask, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(site.engine)
    inbox.create_tables()
    site.write("CREATE TABLE effect (event_id TEXT)")
    Subscriber(app, inbox=inbox, transaction=site.sessions).on("order")(write_effect)

    for _ in range(2):
        response = post(app, signed(binary(event())))
        assert (response.status_code, "Webhook-Receipt" in response.headers) == (500, False)
    assert "without a commit" in caplog.text
    assert effects(site) == []


def test_a_transaction_that_swallows_what_a_handler_raises_gets_no_receipt(
    app: Flask, site: Site
) -> None:
    @contextmanager
    def silent() -> Iterator[Session]:
        with suppress(RuntimeError), site.sessions.begin() as session:
            yield session

    inbox = Inbox(site.engine)
    inbox.create_tables()
    subscriber = Subscriber(app, inbox=inbox, transaction=silent)

    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        raise RuntimeError

    response = post(app, signed(binary(event())))
    assert (response.status_code, "Webhook-Receipt" in response.headers) == (500, False)


def test_a_handler_may_ask_to_be_tried_later(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        write_effect(event, session)
        raise Retry(after_s=30)

    response = post(app, signed(binary(event())))

    assert response.status_code == 200
    assert response.headers["Webhook-Verdict"] == "retry"
    assert response.headers["Retry-After"] == "30"
    assert "Webhook-Receipt" not in response.headers
    assert effects(site) == []


def test_a_handler_may_give_a_message_up(app: Flask, subscriber: Subscriber, site: Site) -> None:
    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        write_effect(event, session)
        raise DeadLetter("no such customer")

    response = post(app, signed(binary(event())))

    assert response.status_code == 200
    assert response.headers["Webhook-Verdict"] == "dead-letter"
    assert "Webhook-Receipt" not in response.headers
    assert response.json == {"verdict": "dead-letter", "reason": "no such customer"}
    assert effects(site) == []


@pytest.mark.parametrize(
    ("verdict", "status"), [(Retry(), 409), (Retry(after_s=5), 409), (DeadLetter("no"), 422)]
)
def test_a_verdict_is_no_ack_for_a_sender_other_than_the_broker(
    verdict: Exception, status: int, app: Flask, subscriber: Subscriber
) -> None:
    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        raise verdict

    assert post(app, from_elsewhere(signed(binary(event())))).status_code == status


def test_a_handler_sees_its_delivery(app: Flask, subscriber: Subscriber) -> None:
    seen: list[Delivery] = []
    subscriber.on("order")(lambda event, session: seen.append(subscriber.delivery))

    post(app, signed(binary(event(), sequence=41), attempt=3, webhook_replay="true"))

    [delivery] = seen
    assert delivery.event.id == "a-1"
    assert (delivery.topic, delivery.subscription) == ("order", "shop")
    assert (delivery.sequence, delivery.attempt, delivery.replayed) == (41, 3, True)
    assert delivery.webhook_id == "msg_1"


def test_a_sender_other_than_the_broker_is_served_too(app: Flask, subscriber: Subscriber) -> None:
    seen: list[Delivery] = []
    subscriber.on("order")(lambda event, session: seen.append(subscriber.delivery))

    assert post(app, from_elsewhere(signed(binary(event())))).status_code == 204
    [delivery] = seen
    assert (delivery.subscription, delivery.sequence, delivery.attempt) == (None, None, 1)


# -- which handlers --------------------------------------------------------------------------------


def test_handlers_of_one_subscription_share_a_transaction(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    subscriber.on("order")(write_effect)

    @subscriber.on("order")
    def fail(event: Event, session: Session) -> None:
        raise RuntimeError

    assert post(app, signed(binary(event()))).status_code == 500
    assert effects(site) == []


def test_an_event_of_another_type_is_settled_unhandled(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    subscriber.on("order", types=["order.paid"])(write_effect)

    assert post(app, signed(binary(event()))).headers["Webhook-Receipt"] == "processed"
    assert post(app, signed(binary(event("a-2", type="order.paid")))).status_code == 204
    assert effects(site) == ["a-2"]


def test_subscriptions_of_one_topic_each_handle_an_event(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    subscriber.on("order")(write_effect)
    subscriber.on("order", subscription="audit")(write_effect)

    for subscription in ("order/shop", "order/audit", "order/audit"):
        post(app, signed(binary(event()), subscription=subscription))

    assert effects(site) == ["a-1", "a-1"]


def test_one_identity_in_two_topics_is_two_events(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    for topic in ("order", "shipment"):
        subscriber.on(topic)(write_effect)
        post(app, signed(binary(event()), subscription=f"{topic}/shop"), topic)

    assert effects(site) == ["a-1", "a-1"]


def test_an_unknown_topic_or_subscription_is_not_found(app: Flask, subscriber: Subscriber) -> None:
    subscriber.on("order")(write_effect)
    subscriber.on("order", subscription="audit")(write_effect)

    for topic, subscription in (("other", "other/shop"), ("order", "order/other")):
        response = post(app, signed(binary(event()), subscription=subscription), topic)
        assert response.status_code == 404
        assert response.json is not None
        assert response.json["code"] == "subscription_not_found"


# -- what is refused -------------------------------------------------------------------------------


def test_a_bad_signature_is_refused_before_anything_is_read(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    subscriber.on("order")(write_effect)
    whole = signed(binary(event()))
    missing = {name: v for name, v in whole.headers.items() if name != "webhook-signature"}
    other = signed(binary(event()), secret="whsec_" + "A" * 32)

    for webhook in (
        Webhook(missing, whole.body),
        Webhook(whole.headers, whole.body + b" "),
        Webhook(other.headers, b"not even JSON"),
    ):
        response = post(app, webhook)
        assert response.status_code == 401
        assert response.content_type == "application/problem+json"
        assert response.json is not None
        assert response.json["code"] == "invalid_signature"
    assert effects(site) == []


def test_a_malformed_event_is_refused_for_good(app: Flask, subscriber: Subscriber) -> None:
    subscriber.on("order")(write_effect)
    no_type = {name: v for name, v in binary(event()).headers.items() if name != "ce-type"}

    response = post(app, signed(Webhook(no_type, b"{}")))

    assert response.status_code == 422
    assert response.json is not None
    assert response.json["code"] == "malformed_event"
    assert "type" in response.json["detail"]


def test_a_body_over_the_limit_is_refused(app: Flask, subscriber: Subscriber) -> None:
    subscriber.on("order")(write_effect)
    app.config["MAX_CONTENT_LENGTH"] = 10

    assert post(app, signed(binary(event()))).status_code == 413


def test_bytes_that_are_no_text_are_verified_and_handled(
    app: Flask, subscriber: Subscriber
) -> None:
    seen: list[Any] = []
    subscriber.on("order")(lambda event, session: seen.append(event.data))
    made = Event(type="t", source="/s", data=b"\xff\x00\xfe")

    assert post(app, signed(binary(made))).status_code == 204
    assert seen == [b"\xff\x00\xfe"]


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_is_handled_in_order(app: Flask, subscriber: Subscriber, site: Site) -> None:
    seen: list[tuple[str, int | None]] = []

    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        seen.append((event.id, subscriber.delivery.sequence))
        write_effect(event, session)

    response = post(app, signed(batch([event("1"), event("2"), event("1")])))

    assert (response.status_code, response.headers["Webhook-Receipt"]) == (204, "processed")
    assert seen == [("1", 1), ("2", 2)]
    assert effects(site) == ["1", "2"]


def test_a_key_of_a_batch_stops_at_its_first_failure(
    app: Flask, subscriber: Subscriber, site: Site
) -> None:
    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        write_effect(event, session)
        if event.id == "2":
            raise RuntimeError
        if event.id == "5":
            raise DeadLetter("no")

    events = [
        event("1", key="a"),
        event("2", key="a"),
        event("3", key="b"),
        event("4", key="a"),
        event("5", key="b"),
        event("6", key="b"),
        event("7"),
    ]
    response = post(app, signed(batch(events)))

    assert response.status_code == 200
    assert response.json == {"retry": [1, 3, 5], "dead_letter": [4]}
    assert response.headers["Webhook-Receipt"] == "processed"
    assert effects(site) == ["1", "3", "7"]


def test_a_malformed_batch_is_refused_whole(app: Flask, subscriber: Subscriber, site: Site) -> None:
    subscriber.on("order")(write_effect)
    webhook = Webhook({"Content-Type": "application/cloudevents-batch+json"}, b'[{"id": "1"}]')

    assert post(app, signed(webhook)).status_code == 422
    assert effects(site) == []


# -- without an inbox -----------------------------------------------------------------------------


def test_without_an_inbox_every_delivery_is_handled_and_none_has_a_receipt(app: Flask) -> None:
    seen: list[tuple[str, object]] = []
    subscriber = Subscriber(app)
    subscriber.on("order")(lambda event, session: seen.append((event.id, session)))

    for webhook in (binary(event()), binary(event()), batch([event("a-2"), event("a-3")])):
        response = post(app, signed(webhook))
        assert response.status_code == 204
        assert "Webhook-Receipt" not in response.headers
    assert seen == [("a-1", None), ("a-1", None), ("a-2", None), ("a-3", None)]


def test_without_an_inbox_handlers_have_the_transaction_that_is_given(
    app: Flask, site: Site
) -> None:
    site.write("CREATE TABLE effect (event_id TEXT)")
    Subscriber(app, transaction=site.sessions.begin).on("order")(write_effect)

    post(app, signed(binary(event())))

    assert effects(site) == ["a-1"]


def test_without_an_inbox_exactly_once_cannot_be_asked_for(app: Flask) -> None:
    with pytest.raises(ValueError, match="inbox"):
        Subscriber(app, guarantee="exactly-once")
    with pytest.raises(ValueError, match="inbox"):
        Subscriber(app).on("order", guarantee="exactly-once")


def test_without_an_inbox_the_secret_must_be_given(app: Flask) -> None:
    del app.config["BROKER_WEBHOOK_SECRET"]

    with pytest.raises(ValueError, match="BROKER_WEBHOOK_SECRET"):
        Subscriber(app)


# -- the extension ---------------------------------------------------------------------------------


def test_the_extension_can_be_bound_later(app: Flask, site: Site) -> None:
    inbox = Inbox(site.connect)
    inbox.create_tables()
    subscriber = Subscriber(inbox=inbox)
    seen: list[str] = []
    subscriber.on("order")(lambda event, connection: seen.append(event.id))
    app.config["BROKER_WEBHOOK_PATH"] = "/in"

    subscriber.init_app(app)

    assert app.extensions["broker_subscriber"] is subscriber
    webhook = signed(binary(event()))
    response = app.test_client().post("/in/order", data=webhook.body, headers=dict(webhook.headers))
    assert response.status_code == 204
    assert seen == ["a-1"]


def test_a_missing_setting_stops_the_start(sqlite_site: Site) -> None:
    with pytest.raises(ValueError, match="BROKER_URL"):
        Subscriber(Flask("shop"), inbox=Inbox(sqlite_site.engine))


def test_without_subscribing_it_is_ready(
    app: Flask, subscriber: Subscriber, broker: LoopbackBroker
) -> None:
    subscriber.on("order")(write_effect)

    assert subscriber.ready
    assert [each.name for each in threading.enumerate() if each.name == "subscriptions"] == []


def test_a_handler_stays_a_plain_function(subscriber: Subscriber) -> None:
    assert subscriber.on("order")(write_effect) is write_effect


def test_no_secret_of_the_message_is_logged(
    app: Flask, subscriber: Subscriber, caplog: pytest.LogCaptureFixture
) -> None:
    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        raise DeadLetter("no")

    with caplog.at_level(logging.DEBUG, "broker_client"):
        post(app, signed(binary(event())))

    assert "a-1" in caplog.text
    assert SECRET not in caplog.text
    assert "order_id" not in caplog.text


# -- consent ---------------------------------------------------------------------------------------


def ask(app: Flask, topic: str = "order", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().options(f"/webhooks/{topic}", headers=named)


def test_a_configured_broker_gets_consent(app: Flask) -> None:
    app.config["BROKER_WEBHOOK_ORIGINS"] = "broker"
    Subscriber(app).on("order")(lambda event, session: None)

    response = ask(app, webhook_request_origin="broker", webhook_request_rate="60")

    assert response.status_code == 204
    assert response.headers["WebHook-Allowed-Origin"] == "broker"
    assert response.headers["WebHook-Allowed-Rate"] == "*"
    assert "POST" in response.headers["Allow"]


def test_another_broker_is_refused(app: Flask) -> None:
    app.config["BROKER_WEBHOOK_ORIGINS"] = "broker"
    Subscriber(app).on("order")(lambda event, session: None)

    response = ask(app, webhook_request_origin="elsewhere.example")

    assert response.status_code == 403
    assert response.headers["WebHook-Allowed-Origin"] == "broker"
    assert response.get_json()["code"] == "origin_refused"


def test_without_origins_nobody_gets_consent_and_nobody_is_refused(app: Flask) -> None:
    Subscriber(app).on("order")(lambda event, session: None)

    response = ask(app, webhook_request_origin="broker")

    assert response.status_code == 204
    assert not [name for name, _ in response.headers if name.lower().startswith("webhook-")]


@pytest.mark.parametrize("named", ["order/other", ""])
def test_there_is_no_consent_to_a_subscription_that_nothing_handles(app: Flask, named: str) -> None:
    app.config["BROKER_WEBHOOK_ORIGINS"] = "*"
    subscriber = Subscriber(app)
    for name in ("one", "two"):
        subscriber.on("order", subscription=name)(lambda event, session: None)

    response = ask(app, webhook_request_origin="broker", webhook_subscription=named)

    assert (response.status_code, response.get_json()["code"]) == (404, "subscription_not_found")
    assert ask(app, webhook_request_origin="b", webhook_subscription="order/two").status_code == 204
