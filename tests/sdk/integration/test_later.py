"""A delivery that is answered later, and what the broker is then told."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from broker_client import (
    AckHandle,
    BrokerRefused,
    DeadLetter,
    Delivery,
    Event,
    Inbox,
    Later,
    LaterNotAllowed,
    Retry,
)
from broker_client.flask_ext import Subscriber
from sdk.databases import Site
from sdk.loopback_broker import AWAY, Answer, Json, LoopbackBroker, refusal
from sdk.webhook import SECRET, Webhook, batch, binary, signed

ACK_PATH = "/v1/acks/order/shop/token-1"


def event(id: str = "a-1") -> Event:
    return Event(type="t", source="/s", id=id)


def told(broker: LoopbackBroker) -> list[Json]:
    return [request.document for request in broker.requests if request.path == ACK_PATH]


# -- the handle ------------------------------------------------------------------------------------


@pytest.fixture
def handle(broker: LoopbackBroker) -> AckHandle:
    return AckHandle(broker.url + ACK_PATH)


def test_each_verdict_is_told(broker: LoopbackBroker, handle: AckHandle) -> None:
    assert handle.extend()
    assert handle.extend(600)
    assert handle.retry()
    assert handle.retry(after_s=1.5)
    assert handle.dead_letter()
    assert handle.ack()
    assert handle.ack("processed")
    assert handle.ack("duplicate", retry=[0, 2], dead_letter=[1])

    assert told(broker) == [
        {"verdict": "extend"},
        {"verdict": "extend", "ack_deadline_s": 600},
        {"verdict": "retry"},
        {"verdict": "retry", "retry_after_s": 1.5},
        {"verdict": "dead-letter"},
        {"verdict": "ack"},
        {"verdict": "ack", "receipt": "processed"},
        {"verdict": "ack", "receipt": "duplicate", "retry": [0, 2], "dead_letter": [1]},
    ]


def test_zero_seconds_are_told_too(broker: LoopbackBroker, handle: AckHandle) -> None:
    handle.retry(after_s=0)

    assert told(broker) == [{"verdict": "retry", "retry_after_s": 0}]


def test_the_url_is_used_as_it_is(broker: LoopbackBroker) -> None:
    path = "/v1/acks/order/shop/to%2Fken?signature=a%2Bb&x=1"

    AckHandle(broker.url + path).ack()

    assert [request.path for request in broker.requests] == [path]
    assert "authorization" not in broker.requests[0].headers


def test_a_lapse_is_told(broker: LoopbackBroker, handle: AckHandle) -> None:
    broker.before = lambda request: Answer(200, {"result": "lapsed"})

    assert not handle.ack("processed")


def test_a_broker_away_for_a_moment_is_told_again(
    broker: LoopbackBroker, handle: AckHandle
) -> None:
    broker.before = lambda request: AWAY if len(broker.requests) < 3 else None

    assert handle.ack("processed")
    assert len(told(broker)) == 3


def test_a_url_that_is_none_is_refused(broker: LoopbackBroker, handle: AckHandle) -> None:
    broker.before = lambda request: refusal(403, "invalid_ack_url")

    with pytest.raises(BrokerRefused, match="invalid_ack_url"):
        handle.ack()


# -- a handler that answers later ------------------------------------------------------------------


@pytest.fixture
def app() -> Flask:
    made = Flask("shop")
    made.config.from_mapping(BROKER_SUBSCRIBE=False, BROKER_WEBHOOK_SECRET=SECRET)
    return made


def bind(app: Flask, site: Site) -> Subscriber:
    inbox = Inbox(site.engine)
    inbox.create_tables()
    site.write("CREATE TABLE effect (event_id TEXT)")
    return Subscriber(app, inbox=inbox, transaction=site.sessions.begin)


@pytest.fixture
def subscriber(app: Flask, site: Site) -> Subscriber:
    return bind(app, site)


def write_effect(event: Event, session: Session) -> None:
    session.execute(text("INSERT INTO effect VALUES (:id)"), {"id": event.id})


def effects(site: Site) -> list[str]:
    return [id for (id,) in site.rows("SELECT event_id FROM effect ORDER BY event_id")]


def deliver(app: Flask, webhook: Webhook, ack_url: str | None) -> TestResponse:
    more = {} if ack_url is None else {"webhook_ack_url": ack_url}
    sent = signed(webhook, **more)
    return app.test_client().post("/webhooks/order", data=sent.body, headers=dict(sent.headers))


def taken_in_hand(app: Flask, subscriber: Subscriber, broker: LoopbackBroker) -> Delivery:
    """Deliver an event to a handler that answers later; return the delivery."""
    taken: list[Delivery] = []

    @subscriber.on("order")
    def take(event: Event, session: Session) -> None:
        taken.append(subscriber.delivery)
        raise Later

    assert deliver(app, binary(event()), broker.url + ACK_PATH).status_code == 202
    return taken[0]


def test_later_is_answered_with_nothing_committed(
    app: Flask, subscriber: Subscriber, site: Site, broker: LoopbackBroker
) -> None:
    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        write_effect(event, session)
        raise Later

    response = deliver(app, binary(event()), broker.url + ACK_PATH)

    assert (response.status_code, response.headers["Webhook-Verdict"]) == (202, "later")
    assert "Webhook-Receipt" not in response.headers
    assert effects(site) == []
    assert site.rows("SELECT id FROM inbox") == []


def test_what_was_taken_in_hand_is_done_once_and_told(
    app: Flask, subscriber: Subscriber, site: Site, broker: LoopbackBroker
) -> None:
    delivery = taken_in_hand(app, subscriber, broker)

    assert subscriber.finish(delivery, write_effect)
    assert subscriber.finish(delivery, write_effect)

    assert told(broker) == [
        {"verdict": "ack", "receipt": "processed"},
        {"verdict": "ack", "receipt": "duplicate"},
    ]
    assert effects(site) == ["a-1"]


def test_what_was_done_later_is_a_duplicate_when_it_is_delivered_again(
    app: Flask, subscriber: Subscriber, site: Site, broker: LoopbackBroker
) -> None:
    delivery = taken_in_hand(app, subscriber, broker)
    broker.before = lambda request: Answer(200, {"result": "lapsed"})
    assert not subscriber.finish(delivery, write_effect)

    response = deliver(app, binary(event()), broker.url + ACK_PATH)

    assert (response.status_code, response.headers["Webhook-Receipt"]) == (204, "duplicate")
    assert effects(site) == ["a-1"]


def test_work_may_be_done_before_the_handler_has_answered(
    app: Flask, postgresql_site: Site, broker: LoopbackBroker
) -> None:
    """The handler's transaction is still open, and has recorded the same event."""
    subscriber = bind(app, postgresql_site)
    started: list[threading.Thread] = []

    @subscriber.on("order")
    def take(event: Event, session: Session) -> None:
        work = threading.Thread(target=subscriber.finish, args=(subscriber.delivery, write_effect))
        work.start()
        started.append(work)
        raise Later

    response = deliver(app, binary(event()), broker.url + ACK_PATH)
    started[0].join(30)

    assert response.status_code == 202
    assert told(broker) == [{"verdict": "ack", "receipt": "processed"}]
    assert effects(postgresql_site) == ["a-1"]


@pytest.mark.parametrize(
    ("raised", "verdict"),
    [
        (RuntimeError("no"), {"verdict": "retry"}),
        (Retry(), {"verdict": "retry"}),
        (Retry(after_s=7), {"verdict": "retry", "retry_after_s": 7}),
        (DeadLetter("no such customer"), {"verdict": "dead-letter"}),
        (Later(), {"verdict": "extend"}),
    ],
)
def test_what_later_work_raises_is_told(
    raised: Exception,
    verdict: Json,
    app: Flask,
    subscriber: Subscriber,
    site: Site,
    broker: LoopbackBroker,
) -> None:
    delivery = taken_in_hand(app, subscriber, broker)

    def work(event: Event, session: Any) -> None:
        write_effect(event, session)
        raise raised

    subscriber.finish(delivery, work)

    assert told(broker) == [verdict]
    assert effects(site) == []


def test_a_delivery_can_be_handed_to_another_process(
    app: Flask, subscriber: Subscriber, site: Site, broker: LoopbackBroker
) -> None:
    delivery = pickle.loads(pickle.dumps(taken_in_hand(app, subscriber, broker)))

    assert subscriber.finish(delivery, write_effect)
    assert effects(site) == ["a-1"]
    assert delivery.ack_later() == AckHandle(broker.url + ACK_PATH)


def test_without_an_inbox_later_work_is_told_without_a_receipt(
    app: Flask, broker: LoopbackBroker
) -> None:
    subscriber = Subscriber(app)
    delivery = taken_in_hand(app, subscriber, broker)

    assert subscriber.finish(delivery, lambda event, session: None)
    assert told(broker) == [{"verdict": "ack"}]


@pytest.mark.parametrize(
    ("webhook", "ack_url"),
    [(binary(event()), None), (batch([event()]), "http://broker/v1/acks/order/shop/whole-batch")],
)
def test_later_needs_an_ack_url_of_its_own(
    webhook: Webhook,
    ack_url: str | None,
    app: Flask,
    subscriber: Subscriber,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A 2xx would be an ack to a broker that does not know the verdict."""
    refused: list[Exception] = []

    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        try:
            subscriber.delivery.ack_later()
        except LaterNotAllowed as error:
            refused.append(error)
        raise Later

    response = deliver(app, webhook, ack_url)

    assert response.status_code == 500
    assert len(refused) == 1
    assert "allow_later" in caplog.text
