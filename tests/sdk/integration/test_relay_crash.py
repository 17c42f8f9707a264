"""Relays that are killed, and several at once: nothing lost, nothing twice, every key in order."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from broker_client import Event, Outbox, Publisher
from sdk import relay_process
from sdk.databases import Site
from sdk.loopback_broker import LoopbackBroker
from support.eventually import eventually

KEYS = [str(n) for n in range(10)]
BURST = 5000


class Relays:
    """Relay processes; each slot is filled again after a kill."""

    def __init__(self, database: URL, broker_url: str, count: int) -> None:
        url = database.render_as_string(hide_password=False)
        self._command = [sys.executable, str(Path(relay_process.__file__)), url, broker_url]
        self._processes = [self._start() for _ in range(count)]

    def kill_and_replace(self, slot: int) -> None:
        self._kill(self._processes[slot])
        self._processes[slot] = self._start()

    def kill_all(self) -> None:
        for process in self._processes:
            self._kill(process)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()


@contextmanager
def relays(site: Site, broker: LoopbackBroker, count: int) -> Iterator[Relays]:
    made = Relays(site.engine.url, broker.url, count)
    try:
        yield made
    finally:
        made.kill_all()


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def add_burst(site: Site, outbox: Outbox, added: list[Event]) -> None:
    """Add events in many transactions, some of which are rolled back."""
    chance = random.Random(1)
    while len(added) < BURST:
        with site.sessions() as session:
            events = [
                Event(type="t", source="/s", partitionkey=chance.choice(KEYS), data=len(added))
                for _ in range(chance.randint(1, 40))
            ]
            for event in events:
                outbox.add(session, "order", event)
            if chance.random() < 0.1:
                session.rollback()
            else:
                session.commit()
                added += events


def by_key(pairs: list[tuple[str | None, str]]) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for key, id in pairs:
        found.setdefault(key, []).append(id)
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [1, 2], ids=["one relay", "two relays"])
def test_relays_killed_in_a_burst_lose_and_double_nothing(
    count: int, site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    outbox = Outbox(site.engine, publisher)
    outbox.create_tables()
    added: list[Event] = []
    with (
        relays(site, broker, count) as running,
        in_background(lambda: add_burst(site, outbox, added)),
    ):
        for kill in range(1, 7):
            eventually(lambda: len(broker.ids()) >= kill * BURST // 8, within_s=60)  # noqa: B023
            running.kill_and_replace(kill % count)
        eventually(
            lambda: len(added) >= BURST and site.rows("SELECT count(*) FROM outbox") == [(0,)],
            within_s=60,
        )

    published = [(event["partitionkey"], event["id"]) for event in broker.messages["order"]]
    assert len(published) == len(added)
    assert by_key(published) == by_key([(event.partitionkey, event.id) for event in added])


def test_two_relays_share_no_work(site: Site, broker: LoopbackBroker, publisher: Publisher) -> None:
    first, second = (Outbox(site.engine, publisher, poll_s=0.01) for _ in range(2))
    first.create_tables()
    first.start()
    second.start()
    added: list[Event] = []
    add_burst(site, first, added)
    eventually(lambda: len(broker.ids()) == len(added), within_s=60)
    first.stop()
    second.stop()

    sent = sum(len(request.events) for request in broker.requests)
    assert sent == len(added)


def test_a_stopped_relay_hands_over_at_once(
    site: Site, broker: LoopbackBroker, publisher: Publisher
) -> None:
    first, second = (Outbox(site.engine, publisher, poll_s=0.01, lease_s=3600) for _ in range(2))
    first.create_tables()
    event = Event(type="t", source="/s")
    first.start()
    with site.sessions.begin() as session:
        first.add(session, "order", event)
    eventually(lambda: broker.ids() == [event.id])
    first.stop()

    with site.sessions.begin() as session:
        second.add(session, "order", Event(type="t", source="/s"))
    assert second.relay_once() == 1
