"""Carrying out decisions: what each does to the rows, the keys and the memory of a shard."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from broker.dispatch.frames import Outcome
from broker.dispatch.incidents import Incidents
from broker.dispatch.lanes import Delivery
from broker.dispatch.ledger import Ledger
from broker.dispatch.memory import Memory
from broker.dispatch.policy import (
    ACK,
    NO_RECEIPT,
    Ack,
    Decision,
    GiveUp,
    Later,
    Retry,
    Terms,
    again,
    decide,
)
from broker.dispatch.tally import Tally
from broker.dispatch.verdicts import LateVerdict, Positions
from broker.store.port import Due
from broker.subscription import Subscription

ASKED_TO_RETRY = "the endpoint asked for a retry"
ASKED_FOR_DEAD_LETTER = "the endpoint asked for a dead letter"
LAPSED = "the ack deadline passed without a verdict"
NACKED = "handed back by a nack"
NO_ANSWER = Outcome(0, 0)


class Settlement:
    """Settles the deliveries of one shard.

    Of the leases none lapses before `next_lapse_at`, as far as they are known.
    """

    def __init__(
        self,
        ledger: Ledger,
        memory: Memory,
        *,
        random: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._memory = memory
        self._random = random
        self._now = now
        self.last_error: str | None = None
        self.tally = Tally()
        self._incidents = Incidents(now)
        self._lease_s = 0.0
        self.next_lapse_at: float | None = None

    def configure(self, subscription: Subscription) -> None:
        """Settle by this configuration from now on."""
        self.subscription = subscription
        self.terms = Terms(
            subscription.retry,
            needs_receipt=subscription.guarantee == "exactly-once",
            allow_later=subscription.allow_later,
        )

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """The endpoint took them."""
        self._ledger.settle(deliveries)
        self._memory.release(deliveries)
        now, tally = self._now(), self.tally
        tally.acked += len(deliveries)
        tally.latency.observe_all([now - each.message.stored_at for each in deliveries])

    def expire(self, delivery: Delivery) -> None:
        """Its time is over: nobody is to have it any more."""
        self._ledger.settle((delivery,))
        self._memory.release((delivery,))
        self.tally.expired += 1

    def lease(self, deliveries: Sequence[Delivery], until: float) -> None:
        """Somebody has pulled them and will answer before `until`."""
        self.will_lapse(until)
        self._memory.lease(until)
        for delivery in deliveries:
            self._ledger.put(delivery, "leased", until)
            self._ledger.hold(self._memory.wait_in_store(delivery, until))

    def look_for_lapses(self) -> None:
        """What is known of when leases lapse is about to be read anew."""
        self.next_lapse_at = None

    def will_lapse(self, at: float) -> None:
        """A lease lapses at this time."""
        if self.next_lapse_at is None or at < self.next_lapse_at:
            self.next_lapse_at = at

    def let_position_pass(self, out: Iterable[Delivery]) -> None:
        """Give rows to what is `out` and to what is in memory."""
        self._ledger.hold(self._memory.lanes.spill_all())
        for delivery in (*out, *self._memory.ready):
            if delivery.row is None:
                self._ledger.lease(delivery)

    def decided(self, outcome: Outcome, deliveries: Sequence[Delivery]) -> list[Decision]:
        """Say what becomes of each delivery of a request that ended so."""
        now, drawn = self._now(), self._random()  # one draw: a batch that fails comes back as one
        return [
            decide(outcome, delivery.attempts + 1, self.terms, now, lambda: drawn)
            for delivery in deliveries
        ]

    def singled_out(
        self,
        positions: Positions,
        deliveries: Sequence[Delivery],
        rest: Sequence[Decision] | None = None,
    ) -> list[Decision]:
        """Say what becomes of each delivery of an answer that singles some out, the `rest` acked.

        A key, or an ordered topic, stops at its first position to be retried.
        """
        drawn = self._random()
        decisions: list[Decision] = []
        stopped: set[str] = set()
        for position, delivery in enumerate(deliveries):
            lane = self._lane_of(delivery)
            if position in positions.retry or (lane is not None and lane in stopped):
                decisions.append(self.again(delivery, ASKED_TO_RETRY, random=lambda: drawn))
                if lane is not None:
                    stopped.add(lane)
            elif position in positions.dead_letter:
                decisions.append(GiveUp(ASKED_FOR_DEAD_LETTER))
            else:
                decisions.append(ACK if rest is None else rest[position])
        return decisions

    def _lane_of(self, delivery: Delivery) -> str | None:
        return "" if self._memory.ordering == "topic" else self._memory.lane_of(delivery)

    def again(
        self,
        delivery: Delivery,
        reason: str,
        wait_s: float = 0.0,
        random: Callable[[], float] | None = None,
    ) -> Decision:
        """Schedule the attempt after one that failed for a reason."""
        attempt, retry = delivery.attempts + 1, self.subscription.retry
        return again(reason, attempt, retry, wait_s, self._now(), random or self._random)

    def lapsed(self, rows: Sequence[Due]) -> list[Decision]:
        """Say what becomes of what was leased and had no verdict in time.

        Of each key there is one draw: what lapses together comes back together.
        """
        self.last_error = LAPSED
        decisions: list[Decision] = []
        drawn: dict[str | None, float] = {}
        for delivery in map(from_row, rows):
            lane, draw = self._memory.lane_of(delivery), self._random()
            if lane is not None:
                draw = drawn.setdefault(lane, draw)
            decisions.append(self.again(delivery, LAPSED, random=partial(float, draw)))
        return decisions

    def nacked(self, rows: Sequence[Due], delay_s: float | None) -> list[Decision]:
        """Say what becomes of what was pulled and handed back, for a while of its own if given."""
        if delay_s is None:
            return [self.again(from_row(due), NACKED) for due in rows]
        wait_s = delay_s
        return [self.again(from_row(due), NACKED, wait_s, lambda: 0.0) for due in rows]

    def concluded(self, verdict: LateVerdict, deliveries: Sequence[Delivery]) -> list[Decision]:
        """Say what becomes of deliveries on which a verdict came at the ack URL."""
        if verdict.verdict == "dead-letter":
            return [GiveUp(ASKED_FOR_DEAD_LETTER) for _ in deliveries]
        drawn = self._random()  # one draw, as for an answer
        if verdict.verdict == "retry":
            wait_s = verdict.retry_after_s or 0.0
            return [self.again(each, ASKED_TO_RETRY, wait_s, lambda: drawn) for each in deliveries]
        if self.terms.needs_receipt and not verdict.receipt:
            rest = [self.again(each, NO_RECEIPT, random=lambda: drawn) for each in deliveries]
            return self.singled_out(verdict.positions, deliveries, rest)
        return self.singled_out(verdict.positions, deliveries)

    def extend(self, rows: Sequence[Due], verdict: LateVerdict) -> None:
        """Let leases end so many seconds from now, which may be earlier than before."""
        seconds = verdict.ack_deadline_s
        until = self._now() + (self.subscription.ack_deadline_s if seconds is None else seconds)
        self.will_lapse(until)
        for due in rows:
            self._ledger.put(from_row(due), "leased", until, due.row.reason)
            self._memory.due(until)

    def conclude(
        self,
        rows: Sequence[Due],
        decisions: Sequence[Decision],
        behind: Collection[str] = (),
    ) -> None:
        """Settle deliveries that wait in the store, each its key's first there or behind these.

        Keys in `behind` have an earlier row yet, which comes before what is to be sent again.
        """
        waiting = set(behind)
        keys: dict[str | None, None] = {}
        for due, decision in zip(rows, decisions, strict=True):
            delivery = from_row(due)
            keys[due.row.key] = None
            if isinstance(decision, Ack):
                self._ledger.drop(due.row.seq)
                self.tally.acked += 1
                self.tally.latency.observe(self._now() - due.message.stored_at)
            elif isinstance(decision, (Retry, GiveUp)):
                self._ledger.log(delivery, NO_ANSWER, decision.error)
                delivery.attempts += 1
                self._wait(delivery, decision, waiting)
        for key in keys:
            if key is None or key not in waiting or key in behind:
                self._memory.free(key)

    def carry_out(
        self,
        deliveries: Sequence[Delivery],
        decisions: Iterable[Decision],
        outcome: Outcome,
        lease_s: float | None = None,
    ) -> None:
        """Settle deliveries that are in memory: by decisions, in the order of the request.

        `lease_s` replaces the ack deadline of those answered `later`.
        """
        self._lease_s = self.subscription.ack_deadline_s if lease_s is None else lease_s
        waiting: set[str] = set()
        for delivery, decision in zip(deliveries, decisions, strict=True):
            if isinstance(decision, Ack):
                self.ack((delivery,))
                continue
            if isinstance(decision, (Retry, GiveUp)):
                self._ledger.log(delivery, outcome, decision.error)
                delivery.attempts += 1
            lane = self._memory.lane_of(delivery)
            overtaken = lane is not None and self._memory.lanes.overtaken(lane)
            if lane is not None and overtaken and isinstance(decision, Retry):
                waiting.add(lane)
            if self._wait(delivery, decision, waiting):
                self._memory.release((delivery,))

    def _wait(self, delivery: Delivery, decision: Decision, waiting: set[str]) -> bool:
        """Put a delivery in the store; of each key the first is due, the others wait behind it.

        None comes before its own time, either. Says whether its key is done with it for now.
        """
        lane = self._memory.lane_of(delivery)
        self.tally.retried += isinstance(decision, Retry)
        self.tally.dead += isinstance(decision, GiveUp)
        if isinstance(decision, GiveUp) and self.subscription.when_exhausted != "block":
            self._incidents.dead(self.subscription, delivery, decision.reason)
            self._ledger.put(delivery, "dead", reason=decision.reason)
            return True
        if lane is not None and lane in waiting and not isinstance(decision, Later):
            due_at = decision.due_at if isinstance(decision, Retry) else 0.0
            self._ledger.put(delivery, "held", due_at, getattr(decision, "error", ""))
            return True
        if lane is not None:
            waiting.add(lane)
        if isinstance(decision, Retry):
            self._ledger.put(delivery, "retry", decision.due_at, decision.error)
            held = self._memory.wait_in_store(delivery, decision.due_at)
        elif isinstance(decision, GiveUp):
            self._incidents.blocked(self.subscription, delivery, decision.reason)
            self._ledger.put(delivery, "blocked", reason=decision.reason)
            held = self._memory.wait_in_store(delivery, None)
        else:
            lapses_at = self._now() + self._lease_s
            self.will_lapse(lapses_at)
            self._ledger.put(delivery, "leased", lapses_at)
            held = self._memory.wait_in_store(delivery, lapses_at)
            self._memory.lease(lapses_at)
        self._ledger.hold(held)
        return False


def from_row(due: Due) -> Delivery:
    """Make the delivery of a row."""
    row = due.row
    return Delivery(due.message, row.attempts, row.state, row.since if row.replayed else None)
