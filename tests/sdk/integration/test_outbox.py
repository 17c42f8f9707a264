"""The outbox: rows follow the caller's transaction, the relay follows the rows."""

from __future__ import annotations

import logging
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy.orm import scoped_session

from broker_client import (
    BrokerRefused,
    BrokerUnavailable,
    Event,
    Outbox,
    Publisher,
    UnsupportedDatabase,
)
from broker_client.database import Source
from sdk.databases import Site
from sdk.loopback_broker import AWAY, HANG_UP, LoopbackBroker, Request, refusal
from support.eventually import eventually


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def event(key: str | None = None, **data: object) -> Event:
    return Event(type="order.created", source="/shop", data=data, partitionkey=key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(site: Site, publisher: Publisher, clock: Clock) -> Outbox:
    made = Outbox(site.engine, publisher, clock=clock)
    made.create_tables()
    return made


def add(site: Site, outbox: Outbox, *events: Event, topic: str = "order") -> list[str]:
    """Add events in one transaction and commit it; return their ids."""
    with site.sessions.begin() as session:
        for each in events:
            outbox.add(session, topic, each)
    return [each.id for each in events]


def wait_for(broker: LoopbackBroker, count: int) -> None:
    """Wait until the topic holds so many messages."""
    eventually(lambda: len(broker.ids()) == count)


def count_rows(site: Site) -> int:
    [(count,)] = site.rows("SELECT count(*) FROM outbox")
    return int(count)


# -- the caller's transaction ----------------------------------------------------------------------


@contextmanager
def with_session(site: Site) -> Iterator[Any]:
    with closing(site.sessions()) as session:
        yield session


@contextmanager
def with_scoped_session(site: Site) -> Iterator[Any]:
    session = scoped_session(site.sessions)
    yield session
    session.remove()


@contextmanager
def with_connection(site: Site) -> Iterator[Any]:
    with site.engine.connect() as connection:
        yield connection


@contextmanager
def with_raw_connection(site: Site) -> Iterator[Any]:
    with closing(site.engine.raw_connection()) as connection:
        yield connection


@contextmanager
def with_dbapi(site: Site) -> Iterator[Any]:
    with closing(site.connect()) as connection:
        yield connection


Opening = Callable[[Site], Any]
every_target = pytest.mark.parametrize(
    "opening",
    [with_session, with_scoped_session, with_connection, with_raw_connection, with_dbapi],
)


@every_target
def test_a_committed_row_is_published(
    opening: Opening, site: Site, source: Source, broker: LoopbackBroker, publisher: Publisher
) -> None:
    outbox = Outbox(source, publisher)
    outbox.create_tables()
    made = event("7", order_id=7)
    with opening(site) as target:
        outbox.add(target, "order", made)
        assert outbox.relay_once() == 0
        target.commit()

    assert outbox.relay_once() == 1
    assert broker.messages["order"] == [made.to_dict()]
    assert count_rows(site) == 0


@every_target
def test_a_row_rolled_back_is_not_published(
    opening: Opening, site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    with opening(site) as target:
        outbox.add(target, "order", event())
        target.rollback()

    assert outbox.relay_once() == 0
    assert broker.requests == []


@pytest.mark.parametrize("topic", ["", "a/b"])
def test_a_topic_that_cannot_be_fails_in_the_callers_hands(
    topic: str, site: Site, outbox: Outbox
) -> None:
    with pytest.raises(ValueError, match="topic name"):
        add(site, outbox, event(), topic=topic)
    assert count_rows(site) == 0


def test_data_json_cannot_say_fails_in_the_callers_hands(site: Site, outbox: Outbox) -> None:
    with pytest.raises(TypeError):
        add(site, outbox, event(when=object()))
    assert count_rows(site) == 0


@pytest.mark.parametrize("target", [None, "order.db", object()])
def test_what_is_no_transaction_is_refused(target: Any, sqlite_site: Site) -> None:
    outbox = Outbox(sqlite_site.engine, Publisher("http://127.0.0.1:1"))

    with pytest.raises(UnsupportedDatabase, match="Session"):
        outbox.add(target, "order", event())


def test_a_table_that_is_no_identifier_is_refused(sqlite_site: Site, publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="table name"):
        Outbox(sqlite_site.engine, publisher, table="outbox; DROP TABLE orders")


def test_tables_of_two_names_stay_apart(
    site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    first, second = (Outbox(site.engine, publisher, table=name) for name in ("first", "second"))
    for each in (first, second):
        each.create_tables()
    add(site, first, event())

    assert second.relay_once() == 0
    assert first.relay_once() == 1


def test_tables_can_be_created_by_many_at_once(site: Site, publisher: Publisher) -> None:
    barrier = threading.Barrier(6)

    def create() -> None:
        barrier.wait()
        Outbox(site.engine, publisher).create_tables()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(create) for _ in range(6)]:
            done.result(30)

    assert count_rows(site) == 0


# -- the relay -------------------------------------------------------------------------------------


def test_rows_are_published_in_order_a_hundred_at_a_time(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    ids = add(site, outbox, *(event(str(n % 3), n=n) for n in range(250)))

    assert outbox.relay_once() == 250
    assert broker.ids() == ids
    assert [len(request.events) for request in broker.requests] == [100, 100, 50]


def test_a_batch_is_of_one_topic_and_keeps_the_order_between_topics(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    for topic in ("order", "order", "shipment", "order"):
        add(site, outbox, event(), topic=topic)

    assert outbox.relay_once() == 4
    paths = [(request.path.split("/")[3], len(request.events)) for request in broker.requests]
    assert paths == [("order", 2), ("shipment", 1), ("order", 1)]


def test_large_rows_travel_in_several_requests(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    ids = add(site, outbox, *(event(text="x" * 1_000_000) for _ in range(6)))

    assert outbox.relay_once() == 6
    assert broker.ids() == ids
    assert max(len(request.body) for request in broker.requests) <= 4 * 1024 * 1024


def test_a_row_committed_late_is_not_skipped(
    postgresql_site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    site, outbox = postgresql_site, Outbox(postgresql_site.engine, publisher)
    outbox.create_tables()
    slow, fast = event(), event()
    with site.sessions() as session:
        outbox.add(session, "order", slow)
        add(site, outbox, fast)
        assert outbox.relay_once() == 1
        session.commit()

    assert outbox.relay_once() == 1
    assert broker.ids() == [fast.id, slow.id]


def test_while_the_broker_is_away_rows_stay(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    ids = add(site, outbox, *(event() for _ in range(3)))
    broker.before = lambda request: AWAY

    with pytest.raises(BrokerUnavailable):
        outbox.relay_once()
    assert count_rows(site) == 3
    assert len(broker.requests) == 1

    broker.before = lambda request: None
    assert outbox.relay_once() == 3
    assert broker.ids() == ids


def test_what_was_published_before_the_broker_went_is_settled(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    add(site, outbox, event(), topic="order")
    add(site, outbox, event(), topic="shipment")
    broker.before = lambda request: AWAY if "shipment" in request.path else None

    with pytest.raises(BrokerUnavailable):
        outbox.relay_once()

    assert site.rows("SELECT topic FROM outbox") == [("shipment",)]


def test_rows_published_without_an_answer_are_not_published_twice(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    ids = add(site, outbox, *(event("k", n=n) for n in range(5)))
    broker.after = lambda request: HANG_UP
    with pytest.raises(BrokerUnavailable):
        outbox.relay_once()
    broker.after = lambda request: None

    assert outbox.relay_once() == 5
    assert broker.ids() == ids


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_blames_no_row(
    status: int, site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    add(site, outbox, event(), event())
    broker.before = lambda request: refusal(status, "key", "get another")

    with pytest.raises(BrokerRefused, match="get another"):
        outbox.relay_once()

    assert site.rows("SELECT refusal FROM outbox") == [(None,), (None,)]


def test_a_writer_does_not_wait_for_the_broker(
    sqlite_site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    site, outbox = sqlite_site, Outbox(sqlite_site.engine, publisher)
    outbox.create_tables()
    site.write("CREATE TABLE orders (id INTEGER)")
    add(site, outbox, event())
    [(_, _, path)] = site.rows("PRAGMA database_list")

    def write_meanwhile(request: Request) -> None:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            connection.execute("INSERT INTO orders VALUES (1)")
            connection.commit()

    broker.before = write_meanwhile

    assert outbox.relay_once() == 1
    assert site.rows("SELECT id FROM orders") == [(1,)]


def test_an_idle_relay_writes_nothing(sqlite_site: Site, publisher: Publisher) -> None:
    outbox = Outbox(sqlite_site.engine, publisher)
    outbox.create_tables()
    with sqlite_site.engine.connect() as watcher:
        before = watcher.exec_driver_sql("PRAGMA data_version").scalar()
        assert outbox.relay_once() == 0
        assert watcher.exec_driver_sql("PRAGMA data_version").scalar() == before


# -- refused rows ----------------------------------------------------------------------------------


def refuse_ids(*ids: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda event: "schema_violation" if event["id"] in ids else None


def test_a_refused_row_holds_its_key_and_no_other(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    ids = add(site, outbox, event("a"), event("b"), event("a"), event(), event("b"))
    broker.refuse = refuse_ids(ids[0])

    assert outbox.relay_once() == 3
    assert broker.ids() == [ids[1], ids[3], ids[4]]

    later = add(site, outbox, event("a"), event("b"))
    assert outbox.relay_once() == 1
    assert broker.ids()[3:] == [later[1]]
    assert count_rows(site) == 3


def test_a_refused_row_holds_its_key_in_its_own_topic(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    [refused] = add(site, outbox, event("a"), topic="order")
    [other] = add(site, outbox, event("a"), topic="shipment")
    broker.refuse = refuse_ids(refused)

    assert outbox.relay_once() == 1
    later = add(site, outbox, event("a"), topic="shipment")
    assert outbox.relay_once() == 1
    assert broker.ids("shipment") == [other, *later]


def test_a_refused_row_without_a_key_holds_only_itself(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    ids = add(site, outbox, event(), event(), event())
    broker.refuse = refuse_ids(ids[0])

    assert outbox.relay_once() == 2
    assert broker.ids() == ids[1:]


def test_a_few_refused_rows_cost_few_requests(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    ids = add(site, outbox, *(event() for _ in range(100)))
    broker.refuse = refuse_ids(ids[40])

    assert outbox.relay_once() == 99
    assert broker.ids() == [id for id in ids if id != ids[40]]
    assert len(broker.requests) <= 15


def test_a_refused_row_says_why(site: Site, broker: LoopbackBroker, outbox: Outbox) -> None:
    [refused] = add(site, outbox, event())
    broker.refuse = refuse_ids(refused)
    outbox.relay_once()

    assert site.rows("SELECT refusal FROM outbox") == [(f"422 schema_violation: event {refused}",)]


def test_a_refused_row_goes_on_once_its_cause_is_gone(
    site: Site, broker: LoopbackBroker, outbox: Outbox, clock: Clock
) -> None:
    ids = add(site, outbox, event("a"), event("a"))
    broker.refuse = refuse_ids(ids[0])
    outbox.relay_once()
    broker.refuse = lambda event: None

    assert outbox.relay_once() == 0
    clock.now += 61
    assert outbox.relay_once() == 2
    assert broker.ids() == ids


def test_a_refusal_is_logged_once(
    site: Site,
    broker: LoopbackBroker,
    outbox: Outbox,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [refused] = add(site, outbox, event())
    broker.refuse = refuse_ids(refused)
    with caplog.at_level(logging.ERROR, "broker_client"):
        for _ in range(3):
            outbox.relay_once()
            clock.now += 61

    assert len(broker.requests) == 3
    [record] = caplog.records
    assert "schema_violation" in record.message


# -- the lease -------------------------------------------------------------------------------------


def hold_lease(site: Site, until: float) -> None:
    site.write(f"INSERT INTO outbox_lease (id, owner, expires_at) VALUES (1, 'another', {until})")


def test_while_another_holds_the_lease_nothing_is_published(
    site: Site, broker: LoopbackBroker, outbox: Outbox, clock: Clock
) -> None:
    add(site, outbox, event())
    hold_lease(site, clock.now + 5)

    assert outbox.relay_once() == 0
    assert broker.requests == []


def test_the_lease_of_a_dead_relay_lapses(site: Site, outbox: Outbox, clock: Clock) -> None:
    add(site, outbox, event())
    hold_lease(site, clock.now + 5)
    clock.now += 5

    assert outbox.relay_once() == 1


def test_the_lease_is_kept_while_publishing_and_given_back_after(
    site: Site, broker: LoopbackBroker, outbox: Outbox, clock: Clock, publisher: Publisher
) -> None:
    other = Outbox(site.engine, publisher, clock=clock)
    add(site, outbox, *(event() for _ in range(250)))
    meanwhile: list[int] = []

    def try_meanwhile(request: Request) -> None:
        clock.now += 8  # longer than the lease, were it not renewed
        meanwhile.append(other.relay_once())

    broker.before = try_meanwhile

    assert outbox.relay_once() == 250
    assert meanwhile == [0, 0, 0]
    broker.before = lambda request: None
    add(site, outbox, event())
    assert other.relay_once() == 1


def test_the_lease_is_given_back_when_the_broker_is_away(
    site: Site, broker: LoopbackBroker, outbox: Outbox, clock: Clock, publisher: Publisher
) -> None:
    add(site, outbox, event())
    broker.before = lambda request: AWAY
    with pytest.raises(BrokerUnavailable):
        outbox.relay_once()
    broker.before = lambda request: None

    assert Outbox(site.engine, publisher, clock=clock).relay_once() == 1


def test_a_relay_that_lost_its_lease_stops_after_its_page(
    site: Site, broker: LoopbackBroker, outbox: Outbox, clock: Clock
) -> None:
    ids = add(site, outbox, *(event() for _ in range(150)))

    def lose_lease(request: Request) -> None:
        site.write(f"UPDATE outbox_lease SET owner = 'another', expires_at = {clock.now + 9}")

    broker.before = lose_lease

    assert outbox.relay_once() == 100
    assert broker.ids() == ids[:100]
    assert count_rows(site) == 50
    assert site.rows("SELECT owner FROM outbox_lease") == [("another",)]


def test_a_relay_that_comes_late_deletes_no_row_of_a_later_time(
    site: Site, broker: LoopbackBroker, outbox: Outbox
) -> None:
    add(site, outbox, event(), event())

    def be_overtaken(request: Request) -> None:
        site.write("DELETE FROM outbox")
        add(site, outbox, event(), event())
        site.write("UPDATE outbox_lease SET owner = 'another'")

    broker.before = be_overtaken
    outbox.relay_once()

    assert count_rows(site) == 2


def test_a_relay_that_waits_for_the_lease_does_not_wait_for_writers(
    sqlite_site: Site, publisher: Publisher, clock: Clock
) -> None:
    outbox = Outbox(sqlite_site.connect, publisher, clock=clock)
    outbox.create_tables()
    add(sqlite_site, outbox, event())
    hold_lease(sqlite_site, clock.now + 5)

    with closing(sqlite_site.connect()) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert outbox.relay_once() == 0


# -- the thread ------------------------------------------------------------------------------------


@contextmanager
def relaying(outbox: Outbox) -> Iterator[None]:
    outbox.start()
    try:
        yield
    finally:
        outbox.stop()


def relay_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("relay")]


def test_the_thread_publishes_what_others_commit(
    site: Site, source: Source, broker: LoopbackBroker, publisher: Publisher
) -> None:
    outbox = Outbox(source, publisher, poll_s=0.02)
    outbox.create_tables()
    with relaying(outbox):
        ids = add(site, Outbox(site.engine, publisher), event(), event())
        eventually(lambda: broker.ids() == ids)


def test_a_commit_of_a_session_wakes_the_thread(
    site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    outbox = Outbox(site.engine, publisher, poll_s=3600)
    outbox.create_tables()
    with relaying(outbox):
        for n in range(1, 6):
            add(site, outbox, event())
            wait_for(broker, n)


def test_a_session_used_again_wakes_the_thread_again(
    site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    outbox = Outbox(site.engine, publisher, poll_s=3600)
    outbox.create_tables()
    session = scoped_session(site.sessions)
    with relaying(outbox):
        outbox.add(session, "order", event())
        session.rollback()
        for n in range(1, 4):
            outbox.add(session, "order", event())
            session.commit()
            wait_for(broker, n)
    session.remove()


def test_the_thread_goes_on_when_the_broker_comes_back(
    site: Site, broker: LoopbackBroker, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(site.engine, publisher, poll_s=0.02)
    outbox.create_tables()
    broker.before = lambda request: AWAY
    with caplog.at_level(logging.INFO, "broker_client"), relaying(outbox):
        ids = add(site, outbox, event())
        eventually(lambda: len(broker.requests) >= 4)
        broker.before = lambda request: None
        eventually(lambda: broker.ids() == ids)

    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]


def test_the_thread_goes_on_when_the_database_comes_back(
    site: Site, broker: LoopbackBroker, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(site.connect, publisher, poll_s=0.02)
    with relaying(outbox):
        eventually(lambda: "cannot work" in caplog.text)
        outbox.create_tables()
        ids = add(site, outbox, event())
        eventually(lambda: broker.ids() == ids)


def test_starting_twice_makes_one_thread(sqlite_site: Site, publisher: Publisher) -> None:
    outbox = Outbox(sqlite_site.engine, publisher)
    outbox.create_tables()
    with relaying(outbox), relaying(outbox):
        assert len(relay_threads()) == 1

    assert relay_threads() == []


def test_a_stopped_thread_can_be_started_again(
    sqlite_site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    outbox = Outbox(sqlite_site.engine, publisher, poll_s=0.02)
    outbox.create_tables()
    for n in range(1, 4):
        with relaying(outbox):
            add(sqlite_site, outbox, event())
            wait_for(broker, n)


def test_stopping_finishes_the_page_at_hand(
    site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    outbox = Outbox(site.engine, publisher, poll_s=0.02)
    outbox.create_tables()
    arrived, go_on = threading.Event(), threading.Event()

    def wait(request: Request) -> None:
        arrived.set()
        go_on.wait(10)

    broker.before = wait
    outbox.start()
    add(site, outbox, *(event() for _ in range(150)))
    assert arrived.wait(10)
    stopping = threading.Thread(target=outbox.stop)
    stopping.start()
    go_on.set()
    stopping.join(10)

    assert len(broker.ids()) + count_rows(site) == 150
    assert len(broker.ids()) <= 100
    assert site.rows("SELECT expires_at FROM outbox_lease") == [(0,)]


def _child(outbox: Outbox) -> None:
    outbox.start()
    outbox.start()
    names = [each.name for each in relay_threads()]
    outbox.stop()
    assert names == ["relay of outbox"]


def test_a_child_process_starts_a_thread_of_its_own(
    sqlite_site: Site, publisher: Publisher
) -> None:
    outbox = Outbox(sqlite_site.connect, publisher, poll_s=0.02)
    outbox.create_tables()
    with relaying(outbox):
        child = multiprocessing.get_context("fork").Process(target=_child, args=(outbox,))
        child.start()
        child.join(20)

    assert child.exitcode == 0
