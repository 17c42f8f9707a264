"""Being sent messages over gRPC by the broker itself."""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker_client import DeadLetter, Event, Inbox, Publisher, Retry
from broker_client.grpc_subscriber import GrpcSubscriber
from sdk.readme import EXAMPLES, README
from sdk.tls_front import TlsFront
from support.broker_process import BrokerProcess, StartBroker
from support.endpoint import SELF_SIGNED
from support.eventually import eventually

TOPIC, NAME = "order", "packing"
ADMIN_KEY = "an-admin-key-of-the-tests"
QUICK = {"min_backoff_s": 0.05, "max_backoff_s": 0.1}

Subscribe = Callable[..., GrpcSubscriber]


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


@pytest.fixture
def subscribe(broker: BrokerProcess) -> Iterator[Subscribe]:
    """Make subscribers, which are closed afterwards."""
    made: list[GrpcSubscriber] = []

    def make(handler: Any, **options: Any) -> GrpcSubscriber:
        target = f"127.0.0.1:{broker.grpc_port}"
        made.append(GrpcSubscriber(target, TOPIC, NAME, handler, **options))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def pack(event: Event, connection: Any) -> None:
    connection.execute("INSERT INTO parcel VALUES (?)", (event.data["number"],))


def parcels(inbox: Inbox) -> list[int]:
    with inbox.transaction() as connection:
        return [n for (n,) in connection.execute("SELECT number FROM parcel ORDER BY rowid")]


def publish(broker: BrokerProcess, *numbers: int, keys: int = 1) -> None:
    events = [
        Event(type="t", source="/s", partitionkey=f"k{n % keys}", data={"number": n})
        for n in numbers
    ]
    with Publisher(broker.base_url) as publisher:
        publisher.publish_batch(TOPIC, events)


def status(broker: BrokerProcess) -> dict[str, Any]:
    found: dict[str, Any] = broker.api.ok_status(TOPIC, NAME)
    return found


def done(broker: BrokerProcess) -> None:
    """Wait until everything is settled."""
    eventually(lambda: status(broker)["backlog"] == 0, within_s=60)


def test_every_message_is_handled_once_and_in_the_order_of_its_key(
    broker: BrokerProcess, inbox: Inbox, subscribe: Subscribe
) -> None:
    publish(broker, *range(100), keys=7)

    subscribe(pack, inbox=inbox)
    done(broker)
    publish(broker, *range(100, 200), keys=7)
    done(broker)

    packed = parcels(inbox)
    assert sorted(packed) == list(range(200))
    for key in range(7):
        assert [n for n in packed if n % 7 == key] == [n for n in range(200) if n % 7 == key]
    assert status(broker)["guarantee"] == "exactly-once"
    assert (status(broker)["dead_letters"], status(broker)["retrying"]) == (0, 0)


def test_events_arrive_as_they_were_published(broker: BrokerProcess, subscribe: Subscribe) -> None:
    made = [
        Event(type="t", source="/s", data={"ü": 1}, partitionkey="k ü", extensions={"x": "1"}),
        Event(type="t", source="/s", data="text", datacontenttype="text/plain", partitionkey="k ü"),
        Event(type="t", source="/s", data=b"\xff\x00", subject="s", partitionkey="k ü"),
        Event(type="t", source="/s", partitionkey="k ü"),
    ]
    came: list[Event] = []
    subscribe(lambda event, session: came.append(event))

    with Publisher(broker.base_url) as publisher:
        publisher.publish_batch(TOPIC, made)

    eventually(lambda: came == made)


def test_no_more_is_out_than_was_asked_for(broker: BrokerProcess, subscribe: Subscribe) -> None:
    publish(broker, *range(12), keys=12)
    seen: list[int] = []

    def handle(event: Event, session: Any) -> None:
        eventually(lambda: status(broker)["in_flight"] == min(3, 12 - len(seen)))
        seen.append(event.data["number"])

    subscribe(handle, max_outstanding=3)
    done(broker)

    assert sorted(seen) == list(range(12))


def test_subscribers_share_a_subscription_and_keep_a_key_s_order(
    broker: BrokerProcess, subscribe: Subscribe
) -> None:
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

    subscribe(handle, max_outstanding=2)
    subscribe(handle, max_outstanding=2)
    done(broker)

    assert len(threads) == 2
    assert sorted(chain.from_iterable(handled.values())) == list(range(200))
    assert all(numbers == sorted(numbers) for numbers in handled.values())
    assert status(broker)["guarantee"] == "at-least-once"


def test_what_a_handler_raises_rolls_back_and_the_message_comes_again(
    broker: BrokerProcess, inbox: Inbox, subscribe: Subscribe
) -> None:
    publish(broker, 1, 2, 3, keys=3)
    attempts: dict[int, int] = defaultdict(int)

    def handle(event: Event, connection: Any) -> None:
        pack(event, connection)
        number = event.data["number"]
        attempts[number] += 1
        if attempts[number] == 1:
            raise (Retry(after_s=0), Retry(), RuntimeError("broken"))[number - 1]

    subscribe(handle, inbox=inbox, retry=QUICK)
    done(broker)

    assert sorted(parcels(inbox)) == [1, 2, 3]
    assert attempts == {1: 2, 2: 2, 3: 2}


def test_a_delay_that_is_asked_for_is_kept_and_takes_no_room(
    broker: BrokerProcess, subscribe: Subscribe
) -> None:
    publish(broker, 1, 2, keys=2)
    handled: list[int] = []

    def handle(event: Event, session: Any) -> None:
        if event.data["number"] == 1:
            raise Retry(after_s=3600)
        handled.append(event.data["number"])

    subscribe(handle, max_outstanding=1)
    eventually(lambda: handled == [2])

    [waiting] = broker.api.deliveries(TOPIC, "retrying", NAME)
    told = broker.api.attempts(TOPIC, 1, NAME)
    assert waiting["attempt"] == 2
    assert waiting["next_attempt_at"][:13] > told[0]["at"][:13], "not within the hour"


def test_last_failed_attempt_makes_a_dead_letter(
    broker: BrokerProcess, inbox: Inbox, subscribe: Subscribe
) -> None:
    publish(broker, 1)
    attempts = []

    def handle(event: Event, connection: Any) -> None:
        attempts.append(event.id)
        raise DeadLetter("no such customer")

    subscribe(handle, inbox=inbox, retry={"max_attempts": 2, **QUICK})
    eventually(lambda: status(broker)["dead_letters"] == 1)

    assert len(attempts) == 2
    assert parcels(inbox) == []


@pytest.mark.timeout(180)
def test_a_broker_killed_in_the_middle_loses_and_doubles_nothing(
    broker: BrokerProcess, inbox: Inbox, subscribe: Subscribe
) -> None:
    publish(broker, *range(600), keys=7)
    kills = {100, 300, 500}
    killed: set[int] = set()

    def handle(event: Event, connection: Any) -> None:
        pack(event, connection)
        number = event.data["number"]
        if number in kills - killed:
            killed.add(number)
            broker.kill()
            broker.launch()

    subscribe(handle, inbox=inbox, ack_deadline_s=1, retry={"max_attempts": 1000, **QUICK})
    eventually(lambda: len(parcels(inbox)) >= 600, within_s=120)
    broker.recover()
    done(broker)

    packed = parcels(inbox)
    assert sorted(packed) == list(range(600))
    for key in range(7):
        assert [n for n in packed if n % 7 == key] == list(range(key, 600, 7))
    assert killed == kills
    assert status(broker)["dead_letters"] == 0


def test_what_was_done_as_the_broker_died_is_acknowledged_once_it_is_back(
    broker: BrokerProcess, subscribe: Subscribe
) -> None:
    """The leases outlive the broker, so nothing that was out comes again."""
    publish(broker, 1, 2, 3, keys=3)
    handled: list[int] = []

    def handle(event: Event, session: Any) -> None:
        if not handled:
            eventually(lambda: status(broker)["in_flight"] == 3)
            broker.kill()
        handled.append(event.data["number"])

    subscribe(handle, ack_deadline_s=60)
    eventually(lambda: len(handled) == 3)
    broker.recover()
    done(broker)

    assert sorted(handled) == [1, 2, 3]
    assert status(broker)["retrying"] == 0


def test_what_waits_behind_slow_work_is_kept_from_lapsing(
    broker: BrokerProcess, subscribe: Subscribe
) -> None:
    publish(broker, *range(3), keys=3)
    handled: list[int] = []

    def handle(event: Event, session: Any) -> None:
        if not handled:
            threading.Event().wait(1.5)  # much longer than a lease lasts
        handled.append(event.data["number"])

    subscribe(handle, ack_deadline_s=0.3)
    done(broker)

    assert handled == [0, 1, 2]
    assert status(broker)["retrying"] == 0


def test_what_was_lost_meanwhile_is_not_handled_and_its_room_is_there_again(
    broker: BrokerProcess, subscribe: Subscribe
) -> None:
    """Somebody else may have handled it by now, and what follows it."""
    publish(broker, *range(3), keys=3)
    handled: list[int] = []
    all_out: list[int] = []

    def handle(event: Event, session: Any) -> None:
        handled.append(event.data["number"])
        if len(handled) == 1:
            eventually(lambda: status(broker)["in_flight"] == 3)
            broker.api.seek(TOPIC, "beginning", NAME)  # ends all leases
            threading.Event().wait(1.0)
        if event.data["number"] == 3:
            all_out.append(eventually(lambda: status(broker)["in_flight"] == 3))

    subscribe(handle, ack_deadline_s=0.6, max_outstanding=3)
    done(broker)
    assert sorted(handled) == [0, 0, 1, 2]

    publish(broker, 3, 4, 5, keys=3)
    done(broker)
    assert all_out == [True]
    assert sorted(handled) == [0, 0, 1, 2, 3, 4, 5]


def test_stop_handles_what_has_come_and_takes_no_more(
    broker: BrokerProcess, subscribe: Subscribe
) -> None:
    publish(broker, *range(20), keys=20)
    handled: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def handle(event: Event, session: Any) -> None:
        begun.set()
        assert go_on.wait(20)
        handled.append(event.data["number"])

    subscriber = subscribe(handle, max_outstanding=5)
    assert begun.wait(20)
    eventually(lambda: status(broker)["in_flight"] == 5)
    stopping = threading.Thread(target=subscriber.stop)
    stopping.start()
    go_on.set()
    stopping.join(30)

    shown = status(broker)
    assert len(handled) == 20 - shown["backlog"]
    assert 5 <= len(handled) < 20
    assert (shown["in_flight"], shown["retrying"]) == (0, 0)
    subscriber.start()
    done(broker)
    assert sorted(handled) == list(range(20))


def test_idle_subscriber_stops_at_once(broker: BrokerProcess, subscribe: Subscribe) -> None:
    subscriber = subscribe(lambda event, session: None)
    eventually(lambda: broker.api.get_subscription(TOPIC, NAME).is_success)

    subscriber.stop(20)

    assert not any(
        thread.name.startswith(("stream of", "deliveries", "leases"))
        for thread in threading.enumerate()
    )


def test_subscription_that_was_deleted_is_made_again(
    broker: BrokerProcess, inbox: Inbox, subscribe: Subscribe
) -> None:
    publish(broker, 1)
    subscribe(pack, inbox=inbox)
    done(broker)

    broker.api.delete_subscription(TOPIC, NAME)
    eventually(lambda: broker.api.get_subscription(TOPIC, NAME).is_success)
    done(broker)

    assert parcels(inbox) == [1], "the inbox knows it already"


def test_at_most_once_is_handled_and_settles_by_itself(
    broker: BrokerProcess, subscribe: Subscribe
) -> None:
    publish(broker, *range(10), keys=10)
    handled: list[int] = []

    subscribe(lambda event, session: handled.append(event.data["number"]), guarantee="at-most-once")
    eventually(lambda: sorted(handled) == list(range(10)))

    done(broker)


def test_keys_and_encryption_are_those_of_the_channel(start_broker: StartBroker) -> None:
    broker = start_broker(BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY)
    with Publisher(broker.base_url, api_key=ADMIN_KEY) as publisher:
        publisher.publish_data(TOPIC, {"number": 1}, type="t")
    came: list[int] = []

    with (
        TlsFront(broker.grpc_port) as front,
        GrpcSubscriber(
            f"localhost:{front.port}",
            TOPIC,
            NAME,
            lambda event, session: came.append(event.data["number"]),
            api_key=ADMIN_KEY,
            credentials=grpc.ssl_channel_credentials(SELF_SIGNED.read_bytes()),
        ),
    ):
        eventually(lambda: came == [1])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_outstanding": 0}, "max_outstanding"),
        ({"max_outstanding": 1001}, "max_outstanding"),
        ({"endpoint": "http://localhost:1"}, "endpoint"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        GrpcSubscriber("localhost:1", TOPIC, NAME, pack, **options)


def test_readme_s_example_runs(
    broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = [each for each in EXAMPLES if "GrpcSubscriber" in each]
    code = code.replace("localhost:50051", f"127.0.0.1:{broker.grpc_port}")
    monkeypatch.chdir(tmp_path)
    with Publisher(broker.base_url) as publisher:
        for data in ({"order_id": 7}, {"order_id": 8, "address": "Elm Street"}):
            publisher.publish_data(TOPIC, data, type="order.created", key=str(data["order_id"]))

    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(README), "exec"), namespace)
    with namespace["labels"]:
        eventually(lambda: broker.api.ok_status(TOPIC, "labels")["backlog"] == 1)

    assert len(broker.api.deliveries(TOPIC, "retrying", "labels")) == 1
    with namespace["inbox"].transaction() as connection:
        assert list(connection.execute("SELECT address FROM label")) == [("Elm Street",)]
