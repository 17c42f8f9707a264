"""Client library and broker together: what each promises the other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from broker_client import BrokerRefused, DeadLetter, Event, Inbox, Outbox, Published, Publisher
from broker_client.delivery import Delivery
from broker_client.flask_ext import Subscriber
from sdk.databases import Site
from sdk.serving import serving
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.eventually import eventually


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    """Run the broker itself."""
    return start_broker()


@pytest.fixture
def publisher(broker: BrokerProcess) -> Iterator[Publisher]:
    with Publisher(broker.base_url) as made:
        yield made


def event(number: int) -> Event:
    return Event(type="t", source="/s", partitionkey=str(number % 7), data={"number": number})


def stored(broker: BrokerProcess, topic: str) -> list[dict[str, object]]:
    page = httpx.get(f"{broker.base_url}/v1/topics/{topic}/messages?limit=1000", trust_env=False)
    messages: list[dict[str, object]] = page.json()["messages"]
    return messages


def test_receipts_are_the_brokers(publisher: Publisher) -> None:
    first, second = event(1), event(2)

    assert publisher.publish("order", first) == Published(first.id, 1, False)
    assert publisher.publish_batch("order", [first, second]) == [
        Published(first.id, 1, True),
        Published(second.id, 2, False),
    ]


@pytest.mark.parametrize("data", [{"ü": [1.5, None, "☕"]}, b"\x00\xff", None, "text"])
def test_an_event_is_kept_as_it_was_published(
    data: object, broker: BrokerProcess, publisher: Publisher
) -> None:
    made = Event(
        type="t",
        source="/s",
        data=data,
        subject="café 50%",
        partitionkey="k",
        extensions={"text": "a b", "number": 3, "flag": True},
    )
    publisher.publish("order", made)

    [message] = stored(broker, "order")
    message.pop("sequence")
    assert Event.from_dict(message) == made


def test_a_refusal_is_understood(publisher: Publisher) -> None:
    first = event(1)
    publisher.publish("order", first)

    with pytest.raises(BrokerRefused) as caught:
        publisher.publish("order", Event(type="t", source="/s", id=first.id, data="other"))

    assert (caught.value.status, caught.value.code) == (409, "id_reused")
    assert caught.value.detail


@pytest.mark.parametrize("format", ["binary", "structured"])
def test_a_delivery_is_understood(
    format: str, broker: BrokerProcess, publisher: Publisher, sqlite_site: Site
) -> None:
    seen: list[Delivery] = []
    port = free_port()
    app = Flask("shop")
    app.config.from_mapping(
        BROKER_URL=broker.base_url, BROKER_WEBHOOK_URL=f"http://127.0.0.1:{port}"
    )
    inbox = Inbox(sqlite_site.engine)
    inbox.create_tables()
    subscriber = Subscriber(app, inbox=inbox)

    @subscriber.on("order", format=format)
    def handle(event: Event, connection: object) -> None:
        seen.append(subscriber.delivery)
        if event.data == "unwanted":
            raise DeadLetter("unwanted")

    made = [
        Event(type="t", source="/s", data={"ü": 1}, partitionkey="k ü", extensions={"x": "1"}),
        Event(type="t", source="/s", data="unwanted", partitionkey="k ü"),
        Event(type="t", source="/s", data=b"\xff\x00", partitionkey="k ü"),
    ]
    with serving(app, port):
        publisher.publish_batch("order", made)
        eventually(lambda: len(seen) >= 3, within_s=30)
        subscriber.stop()

    assert [delivery.event for delivery in seen] == made
    assert [(delivery.sequence, delivery.attempt) for delivery in seen] == [(1, 1), (2, 1), (3, 1)]
    assert {(delivery.topic, delivery.subscription) for delivery in seen} == {("order", "shop")}


@pytest.mark.parametrize(
    ("origins", "state"), [("127.0.0.1", "agreed"), ("*", "agreed"), ("elsewhere", "refused")]
)
def test_required_consent_is_given_to_a_configured_broker(
    origins: str, state: str, broker: BrokerProcess, publisher: Publisher, sqlite_site: Site
) -> None:
    seen: list[Event] = []
    port = free_port()
    app = Flask("shop")
    app.config.from_mapping(
        BROKER_URL=broker.base_url,
        BROKER_WEBHOOK_URL=f"http://127.0.0.1:{port}",
        BROKER_WEBHOOK_ORIGINS=origins,
    )
    inbox = Inbox(sqlite_site.engine)
    inbox.create_tables()
    subscriber = Subscriber(app, inbox=inbox)
    subscriber.on("order", consent="required")(lambda event, _: seen.append(event))
    publisher.publish("order", event(1))

    with serving(app, port):
        eventually(lambda: subscriber.ready, within_s=30)
        shown = partial(broker.api.ok_status, "order", "shop")
        eventually(lambda: shown()["consent_state"] == state, within_s=30)
        if state == "agreed":
            eventually(lambda: seen, within_s=30)
        subscriber.stop()

    assert len(seen) == (state == "agreed")


@pytest.mark.timeout(180)
def test_a_broker_killed_in_a_burst_loses_and_doubles_nothing(
    broker: BrokerProcess, publisher: Publisher, sqlite_site: Site
) -> None:
    site, port = sqlite_site, free_port()
    site.write("CREATE TABLE effect (number INTEGER, position INTEGER PRIMARY KEY AUTOINCREMENT)")
    inbox, outbox = Inbox(site.engine), Outbox(site.engine, publisher, poll_s=0.02)
    inbox.create_tables()
    outbox.create_tables()
    app = Flask("shop")
    app.config.from_mapping(
        BROKER_URL=broker.base_url, BROKER_WEBHOOK_URL=f"http://127.0.0.1:{port}"
    )
    subscriber = Subscriber(app, inbox=inbox, transaction=site.sessions.begin)

    @subscriber.on("order", retry={"min_backoff_s": 0.05, "max_backoff_s": 0.2})
    def handle(event: Event, session: Session) -> None:
        session.execute(
            text("INSERT INTO effect (number) VALUES (:n)"), {"n": event.data["number"]}
        )

    outbox.start()
    with serving(app, port):
        for number in range(600):
            with site.sessions.begin() as session:
                outbox.add(session, "order", event(number))
            if number in (150, 300, 450):
                broker.kill()
                broker.start()
        eventually(lambda: site.rows("SELECT count(*) FROM effect") == [(600,)], within_s=90)
        subscriber.stop()
        outbox.stop()

    handled = [number for (number,) in site.rows("SELECT number FROM effect ORDER BY position")]
    assert sorted(handled) == list(range(600))
    for key in range(7):
        of_key = [number for number in handled if number % 7 == key]
        assert of_key == sorted(of_key)
    assert len(stored(broker, "order")) == 600
