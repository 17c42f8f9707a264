"""The depot against a model of it, and its workers against each other."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_client import Outbox, Publisher
from sdk.loopback_broker import Json, LoopbackBroker
from services.ticking import Clock
from shipping_service.database import Database
from shipping_service.depot import BATCH, Depot, IllegalTransition, ShipmentNotFound
from shipping_service.models import Base
from shipping_service.status import Status

STEP_S = 10.0
ORDERS = st.sampled_from(["o-1", "o-2", "o-3"])


class Site:
    """A depot on a database that can be opened again, and a broker it publishes to."""

    def __init__(self, url: str, *, returned_chance: float = 0.1) -> None:
        self.clock = Clock(1000.0)
        self.broker = LoopbackBroker()
        self.broker.__enter__()
        self._url = url
        self._returned_chance = returned_chance
        self._open: list[Database | Publisher] = []
        self.open()

    def open(self) -> None:
        """Build database, outbox and depot."""
        self.depot = self.new_depot()

    def new_depot(self, seed: int = 1) -> Depot:
        """A depot as another process has it: with connections of its own."""
        database = Database(self._url)
        publisher = Publisher(self.broker.url)
        outbox = Outbox(database.engine, publisher)
        database.create_tables(Base.metadata)
        outbox.create_tables()
        self._open += [database, publisher]
        random = Random(seed)
        return Depot(database, outbox, self.clock, random, STEP_S, self._returned_chance)

    def register(self, *order_ids: str) -> None:
        """Register shipments in one transaction."""
        with self.depot.database.write() as session:
            for order_id in order_ids:
                self.depot.register(session, order_id)

    def told(self) -> list[Json]:
        """Publish what is in the outbox; give all that was ever published."""
        self.depot.outbox.relay_once()
        return self.broker.messages.get("shipment", [])

    def close(self) -> None:
        """Close everything but the broker."""
        while self._open:
            self._open.pop().close()

    def end(self) -> None:
        """Close everything."""
        self.close()
        self.broker.__exit__(None, None, None)


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    """A new depot."""
    made = Site(database_url)
    yield made
    made.end()


class DepotModel(RuleBasedStateMachine):
    """Any order of arrivals, changes by hand, passing time and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.site = Site(f"sqlite:///{self._folder.name}/shipping.db", returned_chance=0.5)
        self.history: dict[str, list[Status]] = {}
        self.due_at: dict[str, float] = {}

    def teardown(self) -> None:
        self.site.end()
        self._folder.cleanup()

    @rule(order_id=ORDERS)
    def order_arrives(self, order_id: str) -> None:
        self.site.register(order_id)
        if order_id not in self.history:
            self._moved(order_id, Status.REGISTERED)

    @rule(order_id=ORDERS, wanted=st.sampled_from(Status))
    def somebody_changes_it(self, order_id: str, wanted: Status) -> None:
        try:
            self.site.depot.change(order_id, wanted)
        except ShipmentNotFound:
            assert order_id not in self.history
        except IllegalTransition:
            assert wanted not in self.history[order_id][-1].following
        else:
            assert wanted in self.history[order_id][-1].following
            self._moved(order_id, wanted)

    @rule(seconds=st.sampled_from([1.0, STEP_S / 2, STEP_S, 5 * STEP_S]))
    def time_passes(self, seconds: float) -> None:
        self.site.clock.now += seconds
        due = {order_id for order_id, at in self.due_at.items() if at <= self.site.clock.now}

        assert self.site.depot.advance_due() == len(due)

        for order_id in due:
            self._moved(order_id, self.site.depot.find(order_id).status)

    @precondition(lambda self: self.history)
    @rule()
    def service_restarts(self) -> None:
        self.site.close()
        self.site.open()

    @invariant()
    def there_is_one_shipment_an_order_where_the_model_says(self) -> None:
        found = {one.order_id: one.status for one in self.site.depot.list_page("", 100)}
        assert found == {order_id: steps[-1] for order_id, steps in self.history.items()}

    @invariant()
    def each_change_is_told_once_and_in_its_order(self) -> None:
        told: dict[str, list[tuple[str | None, str]]] = {}
        for event in self.site.told():
            data = event["data"]
            assert event["partitionkey"] == data["order_id"]
            assert event["type"] == f"shipment.{data['status'].lower()}"
            told.setdefault(data["order_id"], []).append((data["previous_status"], data["status"]))
        assert told == {
            order_id: list(zip([None, *steps], steps, strict=False))
            for order_id, steps in self.history.items()
        }

    def _moved(self, order_id: str, status: Status) -> None:
        steps = self.history.setdefault(order_id, [])
        assert not steps or status in steps[-1].following
        steps.append(status)
        self.due_at.pop(order_id, None)
        if status.following:
            self.due_at[order_id] = self.site.clock.now + STEP_S


TestDepotModel = DepotModel.TestCase
TestDepotModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_refused_transition_names_what_is_allowed(site: Site) -> None:
    site.register("o-1")

    with pytest.raises(IllegalTransition, match=r"REGISTERED can become SHIPPED, not DELIVERED"):
        site.depot.change("o-1", Status.DELIVERED)

    assert site.depot.find("o-1").status is Status.REGISTERED
    assert [event["type"] for event in site.told()] == ["shipment.registered"]


def test_workers_together_move_each_due_shipment_once(site: Site) -> None:
    order_ids = [f"o-{number:03}" for number in range(3 * BATCH)]
    site.register(*order_ids)
    site.clock.now += STEP_S
    moved: list[int] = []

    def work(seed: int) -> None:
        depot = site.new_depot(seed)
        while count := depot.advance_due():
            moved.append(count)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(moved) == len(order_ids)
    told = Counter((event["type"], event["data"]["order_id"]) for event in site.told())
    assert told == {
        (f"shipment.{status}", order_id): 1
        for status in ("registered", "shipped")
        for order_id in order_ids
    }


def test_some_shipments_come_back(site: Site) -> None:
    order_ids = [f"o-{number:03}" for number in range(BATCH)]
    site.register(*order_ids)
    for _ in range(2):
        site.clock.now += STEP_S
        site.depot.advance_due()

    ends = Counter(shipment.status for shipment in site.depot.list_page("", BATCH))

    assert ends.keys() == {Status.DELIVERED, Status.RETURNED}
    assert 1 <= ends[Status.RETURNED] <= 25
