"""The outbox: events that are published if, and only if, the caller's transaction commits."""

import logging
import os
import time
import uuid
from collections.abc import Callable

from broker_client import statements
from broker_client.background import Background, Failures, Pulse
from broker_client.database import Database, Link, Source, Target, after_commit, join
from broker_client.event import Event
from broker_client.names import check_name
from broker_client.publishing import EventPublisher
from broker_client.relay import Relay
from broker_client.tracing import stamped

_MAX_BACKOFF_S = 5.0

logger = logging.getLogger("broker_client.outbox")


class Outbox:
    """A table of events to publish, and the relay that publishes them.

    `add` writes a row in the caller's own transaction; the relay publishes committed rows in the
    order of their insertion, which holds for every topic and partitionkey, and deletes them. What
    the broker was told before a crash is told again after it, and the broker takes it once.

    `database` is a SQLAlchemy Engine, or a function that returns a new DB-API connection, on
    SQLite or PostgreSQL. Any number of processes may `start()` the relay of one table: one at a
    time works, by a lease in the table `<table>_lease`. A row that the broker refuses stays with
    its reason in the column `refusal`, holds back its key, and is tried again every
    `refused_retry_s`. `clock` gives epoch seconds.
    """

    def __init__(
        self,
        database: Source,
        publisher: EventPublisher,
        *,
        table: str = "outbox",
        poll_s: float = 0.2,
        lease_s: float = 10.0,
        refused_retry_s: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = Database(database)
        self._publisher = publisher
        self._sql = statements.load("outbox", table)
        self._poll_s = poll_s
        self._lease_s = lease_s
        self._refused_retry_s = refused_retry_s
        self._clock = clock
        self._background = Background(f"relay of {table}", self._run)

    def create_tables(self) -> None:
        """Create the tables where they are missing."""
        with self._database.writing() as transaction:
            transaction.execute_script(self._sql[f"create_{transaction.dialect}"])

    def add(self, target: Target, topic: str, event: Event) -> None:
        """Write an event into the caller's transaction: it is published if that commits.

        `target` is the SQLAlchemy Session or Connection, or the DB-API connection, on which the
        caller runs its own statements. Raises ValueError or TypeError for a topic's name or data
        that the broker would refuse, whatever the database raises, and nothing of the broker's.
        """
        join(target).execute(
            self._sql["add"],
            topic=check_name("topic", topic),
            partitionkey=event.partitionkey,
            event=stamped(topic, event).to_json(),
            now=self._clock(),
        )
        if self._background.running:
            after_commit(target, self._wake)

    def relay_once(self) -> int:
        """Publish all committed rows that are due; return how many were published.

        Returns 0 while another relay holds the lease. Raises BrokerUnavailable, and BrokerRefused
        for a missing or wrong API key; the rows stay.
        """
        with self._database.link() as link:
            return self._relay().drain(link)

    def start(self) -> None:
        """Relay in a thread of this process from now on; a second call changes nothing.

        In a server that forks, call it in each worker.
        """
        self._background.start()

    def stop(self) -> None:
        """Stop the thread once it has settled what it is sending."""
        self._background.stop()

    def _wake(self, _session: object) -> None:
        self._background.ring()

    def _relay(self) -> Relay:
        return Relay(
            self._sql,
            self._publisher,
            owner=f"{os.getpid()}-{uuid.uuid4()}",
            clock=self._clock,
            lease_s=self._lease_s,
            refused_retry_s=self._refused_retry_s,
        )

    def _run(self, pulse: Pulse) -> None:
        relay = self._relay()
        failures = Failures(logger, "The relay", _MAX_BACKOFF_S)
        while not pulse.stopping:
            try:
                with self._database.link() as link:
                    self._follow(relay, link, pulse, failures)
            except Exception as error:
                pulse.pause(failures.note(error))

    def _follow(self, relay: Relay, link: Link, pulse: Pulse, failures: Failures) -> None:
        while not pulse.stopping:
            pulse.silence()
            relay.drain(link, going=lambda: not pulse.stopping)
            failures.end()
            pulse.rest(self._poll_s)
