"""The relay: publishes an outbox's rows in their order, then deletes them."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker_client.batches import split_batches
from broker_client.database import Link, Row, Transaction
from broker_client.errors import BrokerRefused
from broker_client.publishing import EventPublisher

PAGE_ROWS = 100
"""How many rows are read, published and deleted at a time."""
BATCH_BYTES = 4 * 1024 * 1024

logger = logging.getLogger("broker_client.relay")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event to publish, as it is stored: `event` is CloudEvents JSON.

    `refusal` says why the broker refused it the last time, if it did.
    """

    id: int
    topic: str
    partitionkey: str | None
    event: str
    refusal: str | None


@dataclass(slots=True)
class Outcome:
    """What became of a page of rows so far."""

    published: list[OutboxRow] = field(default_factory=list)
    refused: list[tuple[OutboxRow, str]] = field(default_factory=list)
    held: set[tuple[str, str]] = field(default_factory=set)

    def holds(self, row: OutboxRow) -> bool:
        """Say whether an earlier row of the same topic and key was refused."""
        return row.partitionkey is not None and (row.topic, row.partitionkey) in self.held

    def refuse(self, row: OutboxRow, reason: str) -> None:
        """Note a refused row; it holds back its key."""
        self.refused.append((row, reason))
        if row.partitionkey is not None:
            self.held.add((row.topic, row.partitionkey))


class Relay:
    """Publishes rows while it holds the lease.

    The lease keeps relays from doing the work twice; it is not what keeps order or counts right.
    A relay whose lease lapsed while it was sending can send only rows that its successor sends
    too, in the same order, and the broker takes each source and id once.
    """

    def __init__(
        self,
        statements: dict[str, str],
        publisher: EventPublisher,
        *,
        owner: str,
        clock: Callable[[], float],
        lease_s: float,
        refused_retry_s: float,
    ) -> None:
        self._sql = statements
        self._publisher = publisher
        self._owner = owner
        self._clock = clock
        self._lease_s = lease_s
        self._refused_retry_s = refused_retry_s

    def drain(self, link: Link, going: Callable[[], bool] = lambda: True) -> int:
        """Publish until no row is left, or `going` says no; return how many were published.

        Raises BrokerUnavailable, and BrokerRefused where the sender itself is refused (401, 403).
        """
        count = 0
        rows = self._first_page(link)
        while rows:
            outcome = Outcome()
            try:
                self._publish_page(rows, outcome)
            except BaseException:
                self._settle(link, outcome, going=False)
                raise
            rows = self._settle(link, outcome, going=going())
            count += len(outcome.published)
        return count

    def _first_page(self, link: Link) -> list[OutboxRow]:
        # The look writes nothing: an idle relay, or one that waits for the lease, costs no commit.
        with link.reading() as transaction:
            now = self._clock()
            if not transaction.fetch(self._sql["peek"], now=now, owner=self._owner):
                return []
        with link.writing() as transaction:
            return self._page(transaction) if self._take_lease(transaction) else []

    def _take_lease(self, transaction: Transaction) -> bool:
        now = self._clock()
        until = now + self._lease_s
        changed = transaction.execute(self._sql["lease"], owner=self._owner, until=until, now=now)
        return changed == 1

    def _page(self, transaction: Transaction) -> list[OutboxRow]:
        rows: list[Row] = transaction.fetch(self._sql["page"], now=self._clock(), limit=PAGE_ROWS)
        return [OutboxRow(*row) for row in rows]

    def _publish_page(self, rows: Sequence[OutboxRow], outcome: Outcome) -> None:
        for batch in split_batches(rows, BATCH_BYTES):
            self._publish(batch, outcome)

    def _publish(self, batch: Sequence[OutboxRow], outcome: Outcome) -> None:
        """Publish rows of one topic; halve a refused batch until the refused row is alone."""
        rows = [row for row in batch if not outcome.holds(row)]
        if not rows:
            return

        try:
            # One attempt: the relay itself is the loop that tries again.
            self._publisher.publish_encoded(
                rows[0].topic, [row.event for row in rows], max_attempts=1
            )
        except BrokerRefused as refusal:
            if refusal.of_sender:  # no row is at fault
                raise
            if len(rows) == 1:
                outcome.refuse(rows[0], str(refusal))
                return
            middle = len(rows) // 2
            self._publish(rows[:middle], outcome)
            self._publish(rows[middle:], outcome)
        else:
            outcome.published.extend(rows)

    def _settle(self, link: Link, outcome: Outcome, *, going: bool) -> list[OutboxRow]:
        """Delete what was published and read the next page, or give the lease back."""
        with link.writing() as transaction:
            leased = self._take_lease(transaction)
            self._delete(transaction, outcome.published)
            for row, reason in outcome.refused:
                self._keep_refused(transaction, row, reason)
            rows = self._page(transaction) if leased and going else []
            if not rows:
                transaction.execute(self._sql["release"], owner=self._owner)
        _log_refused(outcome)
        return rows

    def _delete(self, transaction: Transaction, rows: Sequence[OutboxRow]) -> None:
        if rows:
            ids = json.dumps([row.id for row in rows])
            transaction.execute(self._sql[f"delete_{transaction.dialect}"], ids=ids)

    def _keep_refused(self, transaction: Transaction, row: OutboxRow, reason: str) -> None:
        retry_at = self._clock() + self._refused_retry_s
        transaction.execute(self._sql["refuse"], id=row.id, refusal=reason, retry_at=retry_at)


def _log_refused(outcome: Outcome) -> None:
    for row, reason in outcome.refused:
        if reason != row.refusal:
            logger.error(
                "The broker refused row %s for topic %s, which stays and holds its key: %s",
                row.id,
                row.topic,
                reason,
                extra={"action": "refused"},
            )
