"""Pulling with the client library from the broker itself."""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from broker_client import (
    BrokerRefused,
    BrokerUnavailable,
    DeadLetter,
    Event,
    Inbox,
    Publisher,
    PullConsumer,
    Retry,
)
from sdk.readme import EXAMPLES, README
from support.broker_process import BrokerProcess, StartBroker
from support.eventually import eventually

TOPIC, NAME = "order", "packing"


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    """Run the broker itself."""
    return start_broker()


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """Keep what was handled, and the handlers' effects, in a file."""
    made = Inbox(lambda: sqlite3.connect(tmp_path / "packing.db"))
    made.create_tables()
    with made.transaction() as connection:
        connection.execute("CREATE TABLE parcel (number INTEGER)")
    return made


def pack(event: Event, connection: Any) -> None:
    connection.execute("INSERT INTO parcel VALUES (?)", (event.data["number"],))


def parcels(inbox: Inbox) -> list[int]:
    with inbox.transaction() as connection:
        return [n for (n,) in connection.execute("SELECT number FROM parcel ORDER BY rowid")]


def publish(broker: BrokerProcess, *numbers: int, keys: int = 1) -> list[Event]:
    events = [
        Event(type="t", source="/s", partitionkey=f"k{n % keys}", data={"number": n})
        for n in numbers
    ]
    with Publisher(broker.base_url) as publisher:
        publisher.publish_batch(TOPIC, events)
    return events


def status(broker: BrokerProcess) -> dict[str, Any]:
    found: dict[str, Any] = broker.api.ok_status(TOPIC, NAME)
    return found


def test_every_message_is_handled_once_and_in_the_order_of_its_key(
    broker: BrokerProcess, inbox: Inbox
) -> None:
    publish(broker, *range(100), keys=7)

    with PullConsumer(broker.base_url, TOPIC, NAME, pack, inbox=inbox, wait_s=1):
        eventually(lambda: status(broker)["backlog"] == 0)

    packed = parcels(inbox)
    assert sorted(packed) == list(range(100))
    for key in range(7):
        assert [n for n in packed if n % 7 == key] == list(range(key, 100, 7))
    assert status(broker)["guarantee"] == "exactly-once"
    assert status(broker)["dead_letters"] == 0


def test_consumers_share_a_subscription_and_keep_a_key_s_order(broker: BrokerProcess) -> None:
    publish(broker, *range(200), keys=5)
    handled: dict[str | None, list[int]] = defaultdict(list)
    threads: set[int] = set()
    both = threading.Barrier(2)

    def handle(event: Event, session: Any) -> None:
        assert session is None
        if len(threads) < 2 and threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            both.wait(20)
        handled[event.partitionkey].append(event.data["number"])

    def consumer() -> PullConsumer:
        return PullConsumer(broker.base_url, TOPIC, NAME, handle, max_messages=2, wait_s=1)

    with consumer(), consumer():
        eventually(lambda: sum(map(len, handled.values())) == 200)
        eventually(lambda: status(broker)["backlog"] == 0)

    assert len(threads) == 2
    assert all(numbers == sorted(numbers) for numbers in handled.values())
    assert status(broker)["guarantee"] == "at-least-once"


def test_what_a_handler_raises_rolls_back_and_the_message_comes_again(
    broker: BrokerProcess, inbox: Inbox
) -> None:
    publish(broker, 1, 2, keys=2)
    attempts: dict[int, int] = defaultdict(int)

    def handle(event: Event, connection: Any) -> None:
        pack(event, connection)
        number = event.data["number"]
        attempts[number] += 1
        if attempts[number] == 1:
            raise Retry(after_s=0) if number == 1 else RuntimeError("broken")

    retry = {"min_backoff_s": 0.05, "max_backoff_s": 0.1}
    with PullConsumer(broker.base_url, TOPIC, NAME, handle, inbox=inbox, wait_s=1, retry=retry):
        eventually(lambda: status(broker)["backlog"] == 0)

    assert sorted(parcels(inbox)) == [1, 2]
    assert attempts == {1: 2, 2: 2}


def test_last_failed_attempt_makes_a_dead_letter(broker: BrokerProcess, inbox: Inbox) -> None:
    publish(broker, 1)
    attempts = []

    def handle(event: Event, connection: Any) -> None:
        attempts.append(event.id)
        raise DeadLetter("no such customer")

    retry = {"max_attempts": 2, "min_backoff_s": 0.05, "max_backoff_s": 0.1}
    with PullConsumer(broker.base_url, TOPIC, NAME, handle, inbox=inbox, wait_s=1, retry=retry):
        eventually(lambda: status(broker)["dead_letters"] == 1)

    assert len(attempts) == 2
    assert parcels(inbox) == []


def test_message_that_was_done_as_the_broker_died_takes_effect_once(
    broker: BrokerProcess, inbox: Inbox
) -> None:
    publish(broker, 1, 2)
    attempts = []

    def handle(event: Event, connection: Any) -> None:
        pack(event, connection)
        attempts.append(event.data["number"])
        if attempts == [1]:
            broker.kill()

    consumer = PullConsumer(
        broker.base_url,
        TOPIC,
        NAME,
        handle,
        inbox=inbox,
        ack_deadline_s=1,
        max_messages=1,
        wait_s=1,
    )
    with pytest.raises(BrokerUnavailable):
        consumer.run_once()
    assert parcels(inbox) == [1]

    broker.start()
    with consumer:
        eventually(lambda: status(broker)["backlog"] == 0)
    assert parcels(inbox) == [1, 2]
    assert attempts == [1, 2]


def test_slow_work_is_settled_while_the_rest_is_done(broker: BrokerProcess, inbox: Inbox) -> None:
    publish(broker, *range(3), keys=3)
    backlogs = []

    def handle(event: Event, connection: Any) -> None:
        backlogs.append(status(broker)["backlog"])

    ticks = count(step=2)
    consumer = PullConsumer(
        broker.base_url, TOPIC, NAME, handle, inbox=inbox, clock=lambda: float(next(ticks))
    )
    assert consumer.run_once() == 3
    consumer.close()
    assert backlogs == [3, 2, 1]


def test_what_waits_behind_slow_work_is_kept_from_lapsing(broker: BrokerProcess) -> None:
    publish(broker, *range(3), keys=3)
    handled: list[int] = []

    def handle(event: Event, session: Any) -> None:
        if not handled:
            threading.Event().wait(1.5)  # much longer than a lease lasts
        handled.append(event.data["number"])

    consumer = PullConsumer(broker.base_url, TOPIC, NAME, handle, ack_deadline_s=0.3)
    assert consumer.run_once() == 3
    consumer.close()

    assert handled == [0, 1, 2]
    assert (status(broker)["backlog"], status(broker)["retrying"]) == (0, 0)


def test_what_was_lost_meanwhile_is_not_handled(broker: BrokerProcess) -> None:
    """Somebody else may have handled it by now, and what follows it."""
    publish(broker, *range(3), keys=3)
    handled: list[int] = []

    def handle(event: Event, session: Any) -> None:
        handled.append(event.data["number"])
        if len(handled) == 1:
            broker.api.seek(TOPIC, "beginning", NAME)  # ends all leases
            threading.Event().wait(1.0)

    consumer = PullConsumer(broker.base_url, TOPIC, NAME, handle, ack_deadline_s=0.6)
    consumer.run_once()
    assert handled == [0]
    with consumer:
        eventually(lambda: status(broker)["backlog"] == 0)
    assert sorted(handled) == [0, 0, 1, 2]


@pytest.mark.parametrize("after_s", [-1.0, 1e9, float("nan")])
def test_any_delay_that_is_asked_for_hands_the_message_back(
    broker: BrokerProcess, inbox: Inbox, after_s: float
) -> None:
    publish(broker, 1, 2, keys=2)

    def handle(event: Event, connection: Any) -> None:
        if event.data["number"] == 1:
            raise Retry(after_s)
        pack(event, connection)

    consumer = PullConsumer(broker.base_url, TOPIC, NAME, handle, inbox=inbox)
    assert consumer.run_once() == 1
    consumer.close()
    assert parcels(inbox) == [2]
    assert status(broker)["in_flight"] == 0


def test_subscription_that_was_deleted_is_made_again(broker: BrokerProcess, inbox: Inbox) -> None:
    publish(broker, 1)
    consumer = PullConsumer(broker.base_url, TOPIC, NAME, pack, inbox=inbox, wait_s=0)
    assert consumer.run_once() == 1
    broker.api.delete_subscription(TOPIC, NAME)

    with pytest.raises(BrokerRefused, match="subscription"):
        consumer.run_once()
    consumer.run_once()
    consumer.close()

    assert status(broker)["backlog"] == 0
    assert parcels(inbox) == [1], "the inbox knows it already"


def test_readme_s_example_runs(
    broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = [example for example in EXAMPLES if "PullConsumer" in example]
    monkeypatch.chdir(tmp_path)
    with Publisher(broker.base_url) as publisher:
        publisher.publish_data(TOPIC, {"order_id": 7}, type="order.created", key="7")

    namespace: dict[str, Any] = {"__name__": "example"}
    exec(
        compile(code.replace("http://localhost:8080", broker.base_url), str(README), "exec"),
        namespace,
    )
    with namespace["consumer"]:
        eventually(lambda: status(broker)["backlog"] == 0)

    with namespace["inbox"].transaction() as connection:
        assert list(connection.execute("SELECT order_id FROM parcel")) == [(7,)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_messages": 0}, "max_messages"),
        ({"max_messages": 1001}, "max_messages"),
        ({"wait_s": 31}, "wait_s"),
        ({"endpoint": "http://localhost:1"}, "endpoint"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        PullConsumer("http://localhost:1", TOPIC, NAME, pack, **options)
