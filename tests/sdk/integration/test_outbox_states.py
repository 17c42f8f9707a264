"""The outbox and its relay through every order of events that Hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from broker_client import BrokerUnavailable, Event, Outbox, Publisher
from sdk.databases import Site
from sdk.loopback_broker import AWAY, HANG_UP, LoopbackBroker

KEYS = ["a", "b", None]
LEASE_S = 10.0
REFUSED_RETRY_S = 60.0


class OutboxMachine(RuleBasedStateMachine):
    """Adds, commits, rolls back and relays, while broker, database and relays fail.

    The model is one list: the events whose transactions were committed. Whatever happens, the
    broker holds for each key the first of these, in their order, each once; and in the end all.
    """

    def __init__(self, site: Site, broker: LoopbackBroker, publisher: Publisher) -> None:
        super().__init__()
        self.site = site
        self.broker = broker
        self.publisher = publisher
        self.now = 1_000_000.0
        self.session: Session | None = None
        self.added: list[Event] = []
        self.committed: list[Event] = []
        broker.forget_all()
        self.broker_refuses_poison()
        self.replace_relay()
        self.outbox.create_tables()
        for table in ("outbox", "outbox_lease"):
            site.write(f"DELETE FROM {table}")

    def teardown(self) -> None:
        self.end_transaction(commits=False)
        self.broker_answers_again()
        self.broker_takes_everything_again()
        self.time_passes(REFUSED_RETRY_S)
        self.outbox.relay_once()
        assert len(self.broker.messages.get("order", [])) == len(self.committed)
        assert self.site.rows("SELECT id FROM outbox") == []
        self.the_broker_holds_what_was_committed_in_its_order()

    # -- the application ---------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), poison=st.booleans(), count=st.integers(1, 3))
    def add(self, key: str | None, poison: bool, count: int) -> None:
        if self.session is None:
            self.session = self.site.sessions()
        for _ in range(count):
            event = Event(type="t", source="/s", partitionkey=key, data={"poison": poison})
            self.outbox.add(self.session, "order", event)
            self.added.append(event)

    @rule(commits=st.booleans())
    def end_transaction(self, commits: bool) -> None:
        if self.session is None:
            return
        if commits:
            self.session.commit()
            self.committed += self.added
        else:
            self.session.rollback()
        self.session.close()
        self.session, self.added = None, []

    # -- the relay ---------------------------------------------------------------------------------

    def may_relay(self) -> bool:
        # SQLite has one writer: a relay would wait for the open transaction.
        return self.session is None or self.site.engine.dialect.name != "sqlite"

    @rule()
    @precondition(may_relay)
    def relay(self) -> None:
        try:
            self.outbox.relay_once()
        except BrokerUnavailable:
            return

    @rule()
    @precondition(lambda self: self.session is None)
    def relay_dies_between_publish_and_delete(self) -> None:
        self.site.forbid_deletes("outbox")
        try:
            self.outbox.relay_once()
        except (SQLAlchemyError, BrokerUnavailable):
            self.replace_relay()  # the dead one's lease stays
        finally:
            self.site.allow_deletes("outbox")

    @rule()
    def replace_relay(self) -> None:
        self.outbox = Outbox(
            self.site.engine,
            self.publisher,
            lease_s=LEASE_S,
            refused_retry_s=REFUSED_RETRY_S,
            clock=lambda: self.now,
        )

    @rule(seconds=st.sampled_from([1.0, LEASE_S, REFUSED_RETRY_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # -- the broker --------------------------------------------------------------------------------

    @rule()
    def broker_goes_away(self) -> None:
        self.broker.before = lambda request: AWAY

    @rule()
    def broker_stores_and_does_not_answer(self) -> None:
        self.broker.after = lambda request: HANG_UP

    @rule()
    def broker_answers_again(self) -> None:
        self.broker.before = self.broker.after = lambda request: None

    @rule()
    def broker_refuses_poison(self) -> None:
        self.broker.refuse = lambda event: "poison" if event["data"]["poison"] else None

    @rule()
    def broker_takes_everything_again(self) -> None:
        self.broker.refuse = lambda event: None

    @invariant()
    def the_broker_holds_what_was_committed_in_its_order(self) -> None:
        held = self.broker.messages.get("order", [])
        known = {event.id for event in self.committed}
        assert {event["id"] for event in held} <= known
        assert len({event["id"] for event in held}) == len(held)
        for key in ("a", "b"):
            owed = [event.id for event in self.committed if event.partitionkey == key]
            taken = [event["id"] for event in held if event.get("partitionkey") == key]
            assert taken == owed[: len(taken)]


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_reordered(site: Site, broker: LoopbackBroker) -> None:
    class Machine(OutboxMachine):
        def __init__(self) -> None:
            super().__init__(site, broker, publisher)

    with Publisher(broker.url) as publisher:
        run_state_machine_as_test(
            Machine, settings=settings(max_examples=150, stateful_step_count=30, deadline=None)
        )
