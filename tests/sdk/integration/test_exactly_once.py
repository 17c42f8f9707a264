"""Receipts and verdicts of the client library, as the broker itself takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
from flask import Flask

from broker_client import DeadLetter, Event, Inbox, Later, Publisher, Retry
from broker_client.delivery import Delivery
from broker_client.flask_ext import Subscriber
from sdk.databases import Site
from sdk.serving import serving
from support.broker_process import BrokerProcess, free_port
from support.eventually import eventually

RETRY = {"min_backoff_s": 0.02, "max_backoff_s": 0.05}
NAME = "shop"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Run the broker itself."""
    with closing(BrokerProcess(tmp_path)) as process:
        yield process.start()


@pytest.fixture
def publisher(broker: BrokerProcess) -> Iterator[Publisher]:
    with Publisher(broker.base_url) as made:
        yield made


class Shop:
    """A subscriber that notes its effects in a database."""

    def __init__(self, broker: BrokerProcess, site: Site) -> None:
        self.port = free_port()
        self.app = Flask(NAME)
        self.app.config.from_mapping(
            BROKER_URL=broker.base_url, BROKER_WEBHOOK_URL=f"http://127.0.0.1:{self.port}"
        )
        self.inbox = Inbox(site.connect)
        self.inbox.create_tables()
        site.write("CREATE TABLE effect (id TEXT)")
        self.subscriber = Subscriber(self.app, inbox=self.inbox)
        self.seen: list[Delivery] = []
        self._site = site
        self._api = broker.api

    @contextmanager
    def open(self) -> Iterator[None]:
        """Serve until all is settled."""
        with serving(self.app, self.port):
            yield
            eventually(lambda: self._api.backlog("order", NAME) == 0, within_s=30)
            self.subscriber.stop()

    def handles(self, handle: Callable[[Delivery], object], **fields: Any) -> None:
        """Note the delivery, write the effect, and do what `handle` does."""

        @self.subscriber.on("order", retry=RETRY, **fields)
        def note(event: Event, connection: Any) -> None:
            self.seen.append(self.subscriber.delivery)
            self.write_effect(event, connection)
            handle(self.subscriber.delivery)

        eventually(lambda: self.subscriber.ready)

    def write_effect(self, event: Event, connection: Any) -> None:
        """Note that an event took effect."""
        connection.execute("INSERT INTO effect VALUES (?)", (event.id,))

    @property
    def effects(self) -> Counter[str]:
        """How often each event took effect."""
        return Counter(id for (id,) in self._site.rows("SELECT id FROM effect"))


@pytest.fixture
def shop(broker: BrokerProcess, sqlite_site: Site) -> Shop:
    return Shop(broker, sqlite_site)


def event(id: str, key: str | None = None) -> Event:
    return Event(type="t", source="/s", id=id, partitionkey=key)


def answered_later(broker: BrokerProcess) -> list[int]:
    """Give the sequences that wait for a verdict, their requests being over."""
    out = broker.api.deliveries("order", "in-flight", NAME)
    return [each["sequence"] for each in out if each["ack_deadline_at"] is not None]


def judge(delivery: Delivery) -> None:
    """Dead-letter every third event, and take every fifth in the second attempt."""
    number = int(delivery.event.id)
    if number % 3 == 0:
        raise DeadLetter("every third")
    if number % 5 == 0 and delivery.attempt == 1:
        raise Retry(after_s=0)


@pytest.mark.parametrize("format", ["binary", "structured", "batch"])
def test_the_broker_does_what_receipts_and_verdicts_say(
    format: str, broker: BrokerProcess, publisher: Publisher, shop: Shop
) -> None:
    shop.handles(judge, format=format)
    numbers = range(1, 31)
    with shop.open():
        publisher.publish_batch("order", [event(str(n), key=str(n % 4)) for n in numbers])

    status = broker.api.ok_status("order", NAME)
    assert (status["guarantee"], status["state"]) == ("exactly-once", "active")
    dead = [int(each["message"]["id"]) for each in broker.api.dead_letters("order", NAME)]
    assert sorted(dead) == [n for n in numbers if n % 3 == 0]
    assert shop.effects == Counter(str(n) for n in numbers if n % 3)
    for key in range(4):
        first = dict.fromkeys(int(d.event.id) for d in shop.seen if int(d.event.id) % 4 == key)
        assert list(first) == sorted(first)


def test_a_retry_is_told_with_its_time(
    broker: BrokerProcess, publisher: Publisher, shop: Shop
) -> None:
    def put_off(delivery: Delivery) -> None:
        raise Retry(after_s=3600)

    shop.handles(put_off)
    with serving(shop.app, shop.port):
        publisher.publish("order", event("1"))
        [waiting] = eventually(lambda: broker.api.deliveries("order", "retrying", NAME))
        shop.subscriber.stop()

    [failed] = broker.api.attempts("order", 1, NAME)
    assert (failed["status"], waiting["attempt"]) == (200, 2)
    assert "retry" in failed["answer"]
    due, at = (datetime.fromisoformat(t) for t in (waiting["next_attempt_at"], failed["at"]))
    assert due - at > timedelta(minutes=59)


def test_a_dead_letter_tells_the_handlers_reason(
    broker: BrokerProcess, publisher: Publisher, shop: Shop
) -> None:
    def give_up(delivery: Delivery) -> None:
        raise DeadLetter("no such customer")

    shop.handles(give_up)
    with shop.open():
        publisher.publish("order", event("1"))

    [attempt] = broker.api.attempts("order", 1, NAME)
    assert "no such customer" in attempt["answer"]
    assert shop.effects == Counter()


def test_work_that_is_answered_later_is_done_once_and_holds_its_key(
    broker: BrokerProcess, publisher: Publisher, shop: Shop
) -> None:
    begin = Flag()
    told: list[bool] = []

    def work(delivery: Delivery) -> None:
        begin.wait(30)
        told.append(shop.subscriber.finish(delivery, shop.write_effect))

    def take_in_hand(delivery: Delivery) -> None:
        pool.submit(work, delivery)
        raise Later

    with ThreadPoolExecutor(2) as pool:
        shop.handles(take_in_hand, allow_later=True, ack_deadline_s=60)
        with shop.open():
            publisher.publish_batch("order", [event("1", key="k"), event("2", key="k")])
            eventually(lambda: answered_later(broker) == [1])
            assert [delivery.event.id for delivery in shop.seen] == ["1"]
            assert shop.effects == Counter()
            begin.set()

    assert told == [True, True]
    assert shop.effects == Counter(["1", "2"])
    assert [(each.event.id, each.attempt) for each in shop.seen] == [("1", 1), ("2", 1)]
    assert broker.api.ok_status("order", NAME)["dead_letters"] == 0


def test_a_verdict_that_comes_too_late_does_no_harm(
    broker: BrokerProcess, publisher: Publisher, shop: Shop
) -> None:
    def lapse_once(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise Later

    shop.handles(lapse_once, allow_later=True, ack_deadline_s=0.05)
    with shop.open():
        publisher.publish("order", event("1"))

    first, second = shop.seen
    assert (first.attempt, second.attempt) == (1, 2)
    assert not shop.subscriber.finish(first, shop.write_effect)
    assert shop.effects == Counter(["1"])


def test_a_seek_repeats_only_what_was_forgotten(
    broker: BrokerProcess, publisher: Publisher, shop: Shop
) -> None:
    shop.handles(lambda delivery: None)
    with shop.open():
        publisher.publish_batch("order", [event("1"), event("2"), event("3")])
        eventually(lambda: len(shop.effects) == 3 and broker.api.backlog("order", NAME) == 0)

        assert shop.inbox.forget("/s", "2")
        broker.api.seek("order", "beginning", NAME)

    assert shop.effects == Counter({"1": 1, "2": 2, "3": 1})
    assert [each.replayed for each in shop.seen] == [False, False, False, True]


def test_a_replayed_dead_letter_takes_effect_once(
    broker: BrokerProcess, publisher: Publisher, shop: Shop
) -> None:
    mended = Flag()

    def need_mending(delivery: Delivery) -> None:
        if not mended.is_set():
            raise DeadLetter("not yet")

    shop.handles(need_mending)
    with shop.open():
        publisher.publish("order", event("1"))
        eventually(lambda: broker.api.dead_letters("order", NAME))
        mended.set()

        assert broker.api.replay("order", name=NAME) == 1

    assert shop.effects == Counter(["1"])
    assert broker.api.dead_letters("order", NAME) == []
