"""The inbox: each event takes effect once, however often and by whomever it is delivered."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from typing import Any

import pytest
from sqlalchemy import text

from broker_client import Event, Inbox, UnsupportedDatabase
from broker_client.database import Source
from sdk.databases import Site


class HandlerFailed(Exception):
    """What a handler raises in these tests."""


def event(id: str = "a-1", source: str = "/shop") -> Event:
    return Event(type="t", source=source, id=id)


@pytest.fixture
def inbox(source: Source) -> Inbox:
    made = Inbox(source)
    made.create_tables()
    return made


def test_an_event_is_recorded_the_first_time_only(site: Site, inbox: Inbox) -> None:
    answers = []
    for _ in range(3):
        with site.sessions.begin() as session:
            answers.append(inbox.record(session, event()))

    assert answers == [True, False, False]


def test_a_repeat_in_the_same_transaction_is_one(site: Site, inbox: Inbox) -> None:
    with site.sessions.begin() as session:
        assert [inbox.record(session, event()), inbox.record(session, event())] == [True, False]


def test_every_kind_of_transaction_records(site: Site, inbox: Inbox) -> None:
    with site.engine.begin() as connection:
        assert inbox.record(connection, event("1"))
    with closing(site.connect()) as connection:
        assert inbox.record(connection, event("2"))
        connection.commit()
    with inbox.transaction() as given:
        assert inbox.record(given, event("3"))

    with site.sessions.begin() as session:
        assert [inbox.record(session, event(id)) for id in "123"] == [False] * 3


def test_a_transaction_rolled_back_leaves_the_event_new(site: Site, inbox: Inbox) -> None:
    def record_and_fail() -> None:
        with inbox.transaction() as given:
            inbox.record(given, event())
            raise HandlerFailed

    with pytest.raises(HandlerFailed):
        record_and_fail()

    with site.sessions.begin() as session:
        assert inbox.record(session, event())


def test_source_and_id_together_are_the_identity(site: Site, inbox: Inbox) -> None:
    with site.sessions.begin() as session:
        assert inbox.record(session, event("1", "/a"))
        assert inbox.record(session, event("1", "/b"))
        assert inbox.record(session, event("2", "/a"))


def test_consumers_do_not_see_each_other(site: Site, source: Source) -> None:
    first, second = Inbox(source, consumer="first"), Inbox(source, consumer="second")
    first.create_tables()
    with site.sessions.begin() as session:
        assert first.record(session, event())
        assert second.record(session, event())
        assert not second.record(session, event())
        assert not second.record(session, event(), consumer="first")


def test_what_is_known_is_what_was_committed(site: Site, source: Source) -> None:
    inbox = Inbox(source, consumer="first")
    inbox.create_tables()
    with site.sessions() as session:
        inbox.record(session, event("1"))
        assert not inbox.knows(event("1"))
        session.commit()

    assert inbox.knows(event("1"))
    assert not inbox.knows(event("1", source="/other"))
    assert not inbox.knows(event("1"), consumer="second")


def test_a_forgotten_event_is_new_again(site: Site, inbox: Inbox) -> None:
    with site.sessions.begin() as session:
        inbox.record(session, event("1"))
        inbox.record(session, event("2"))

    assert inbox.forget("/shop", "1")
    assert not inbox.forget("/shop", "1")
    with site.sessions.begin() as session:
        assert [inbox.record(session, event(id)) for id in "12"] == [True, False]


def test_forgetting_concerns_every_consumer_unless_one_is_named(site: Site, inbox: Inbox) -> None:
    def record_all() -> list[bool]:
        with site.sessions.begin() as session:
            return [inbox.record(session, event(), consumer=name) for name in ("a", "b")]

    record_all()
    inbox.forget("/shop", "a-1", consumer="a")
    assert record_all() == [True, False]
    inbox.forget("/shop", "a-1")
    assert record_all() == [True, True]


def test_a_purge_forgets_what_is_old(site: Site, source: Source) -> None:
    now = 1_000_000.0
    inbox = Inbox(source, clock=lambda: now)
    inbox.create_tables()
    for id in "123":
        with site.sessions.begin() as session:
            inbox.record(session, event(id))
        now += 100

    assert inbox.purge(older_than_s=150) == 2
    with site.sessions.begin() as session:
        assert [inbox.record(session, event(id)) for id in "123"] == [True, True, False]


def test_the_table_can_be_created_by_many_at_once(site: Site) -> None:
    barrier = threading.Barrier(6)

    def create() -> None:
        barrier.wait()
        Inbox(site.engine).create_tables()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(create) for _ in range(6)]:
            done.result(30)

    assert site.rows("SELECT * FROM inbox") == []


def test_an_event_recorded_elsewhere_at_the_moment_is_waited_for(
    postgresql_site: Site,
) -> None:
    site, inbox = postgresql_site, Inbox(postgresql_site.engine)
    inbox.create_tables()
    answers: list[bool] = []

    def record() -> None:
        with site.sessions.begin() as session:
            answers.append(inbox.record(session, event()))

    for end, expected in (("rollback", True), ("commit", False)):
        inbox.forget("/shop", "a-1")
        with site.sessions() as session:
            inbox.record(session, event())
            other = threading.Thread(target=record)
            other.start()
            assert answers == []
            getattr(session, end)()
        other.join(10)
        assert answers == [expected]
        answers.clear()


Transaction = Callable[[], AbstractContextManager[Any]]


@pytest.mark.parametrize("kind", ["session", "library"])
def test_concurrent_deliveries_take_effect_once(kind: str, site: Site, inbox: Inbox) -> None:
    site.write("CREATE TABLE effect (event_id TEXT)")
    transaction = site.sessions.begin if kind == "session" else inbox.transaction
    ids = [str(n) for n in range(40)]
    faults: list[Exception] = []

    def deliver_all(seed: int) -> None:
        chance = random.Random(seed)
        left = chance.sample(ids, len(ids))
        try:
            while left:
                if _deliver(transaction, inbox, left[-1], fails=chance.random() < 0.3):
                    left.pop()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=deliver_all, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert faults == []
    assert sorted(site.rows("SELECT event_id FROM effect")) == sorted((id,) for id in ids)


def _deliver(transaction: Transaction, inbox: Inbox, id: str, *, fails: bool) -> bool:
    """Deliver one event; return whether it was acknowledged."""
    try:
        with transaction() as target:
            if inbox.record(target, event(id)):
                _write_effect(target, id)
                if fails:
                    raise HandlerFailed
    except HandlerFailed:
        return False
    return True


def _write_effect(target: Any, id: str) -> None:
    statement = f"INSERT INTO effect VALUES ('{id}')"
    if hasattr(target, "cursor"):
        target.cursor().execute(statement)
    else:
        target.execute(text(statement))


@pytest.mark.parametrize("wrong", [None, "sqlite:///a.db", object()])
def test_what_is_no_database_is_refused(wrong: Any) -> None:
    with pytest.raises(UnsupportedDatabase):
        Inbox(wrong)


def test_a_connection_is_no_database(sqlite_site: Site) -> None:
    with closing(sqlite_site.connect()) as connection, pytest.raises(UnsupportedDatabase):
        Inbox(connection)
    with sqlite_site.engine.connect() as connection, pytest.raises(UnsupportedDatabase):
        Inbox(connection)  # type: ignore[arg-type]
