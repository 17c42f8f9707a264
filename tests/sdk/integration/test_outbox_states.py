"""The outbox and its relay through every order of events that Hypothesis thinks of."""

from __future__ import annotations

from itertools import count

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
from sdk.loopback_broker import AWAY, HANG_UP, Answer, LoopbackBroker, Request

KEYS = ["a", "b", None]
FAILURES = [None, None, "away", "stores and hangs up"]
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
        self.broker_refuses(poison=True)
        self.replace_relay()
        self.outbox.create_tables()
        for table in ("outbox", "outbox_lease"):
            site.write(f"DELETE FROM {table}")

    def teardown(self) -> None:
        self.end_transaction("rollback")
        self.broker_refuses(poison=False)
        self.time_passes(REFUSED_RETRY_S)
        self.relay(None, 0)
        assert len(self.broker.messages.get("order", [])) == len(self.committed)
        assert self.site.rows("SELECT id FROM outbox") == []
        self.the_broker_holds_what_was_committed_in_its_order()

    # -- the application ---------------------------------------------------------------------------

    @rule(
        events=st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), min_size=1, max_size=4),
        ending=st.sampled_from(["commit", "commit", "rollback", "later"]),
    )
    def add(self, events: list[tuple[str | None, bool]], ending: str) -> None:
        if self.session is None:
            self.session = self.site.sessions()
        for key, poison in events:
            event = Event(type="t", source="/s", partitionkey=key, data={"poison": poison})
            self.outbox.add(self.session, "order", event)
            self.added.append(event)
        if ending != "later":
            self.end_transaction(ending)

    @rule(ending=st.sampled_from(["commit", "rollback"]))
    def end_transaction(self, ending: str) -> None:
        if self.session is None:
            return
        getattr(self.session, ending)()
        self.session.close()
        if ending == "commit":
            self.committed += self.added
        self.session, self.added = None, []

    # -- the relay ---------------------------------------------------------------------------------

    def may_relay(self) -> bool:
        # SQLite has one writer: a relay would wait for the open transaction.
        return self.session is None or self.site.engine.dialect.name != "sqlite"

    @rule(failure=st.sampled_from(FAILURES), after_requests=st.integers(0, 3))
    @precondition(may_relay)
    def relay(self, failure: str | None, after_requests: int) -> None:
        calls = count()

        def fail(request: Request) -> Answer | None:
            return None if next(calls) < after_requests else AWAY if failure == "away" else HANG_UP

        if failure == "away":
            self.broker.before = fail
        if failure == "stores and hangs up":
            self.broker.after = fail
        try:
            self.outbox.relay_once()
        except BrokerUnavailable:
            assert failure is not None
        finally:
            self.broker.before = self.broker.after = lambda request: None

    @rule()
    @precondition(lambda self: self.session is None)
    def relay_dies_between_publish_and_delete(self) -> None:
        self.site.forbid_deletes("outbox")
        try:
            self.outbox.relay_once()
        except SQLAlchemyError:
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

    @rule(poison=st.booleans())
    def broker_refuses(self, poison: bool) -> None:
        self.broker.refuse = lambda event: "poison" if poison and event["data"]["poison"] else None

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
            Machine, settings=settings(max_examples=80, stateful_step_count=30, deadline=None)
        )
