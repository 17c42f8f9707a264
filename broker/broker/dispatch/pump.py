"""The pump: takes a subscription's messages, has them sent, settles them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf

from broker.cloudevents import header_line
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Endpoint, Item, Outcome
from broker.dispatch.lanes import Delivery, Lanes
from broker.dispatch.policy import Ack, Dead, Decision, Retry, decide, hold_s, reason_of, succeeded
from broker.dispatch.verdicts import asked_to_retry, positions_of
from broker.model import ExceptionRow, FailedAttempt, RowState
from broker.store.port import Changes, Due, LeaseLost, Shard
from broker.subscription import Subscription

# An attempt that takes longer gets a row, so that the position can pass it.
SLOW_S = 0.25
HELD_PAGE = 256


@dataclass(slots=True, eq=False)
class Sent:
    """A request that is out. `sent_at` is on the monotonic clock."""

    deliveries: Sequence[Delivery]
    sent_at: float


class Pump:
    """Drives one shard. `run` is its only task; outcomes come in between its turns."""

    def __init__(
        self,
        shard: Shard,
        subscription: Subscription,
        couriers: Couriers,
        webhook_id_prefix: str,
        *,
        random: Callable[[], float],
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._shard = shard
        self._couriers = couriers
        self._webhook_id_prefix = webhook_id_prefix
        self._random = random
        self._now = now
        self._monotonic = monotonic
        self._ready: deque[Delivery] = deque()
        self._in_flight: dict[int, Sent] = {}
        self._lanes = Lanes()
        self._parked = False
        self._wanting: list[str] = []
        self._with_row: set[int] = set()
        self._next_due_at: float | None = 0.0
        self._checked_slow_at = 0.0
        self._changes = _Pending()
        self._hold_until = 0.0
        self._draining = False
        self._reordering = False
        self.last_error: str | None = None
        self.subscription = subscription
        self._tell_courier()

    # -- from outside ------------------------------------------------------------------------------

    def configure(self, subscription: Subscription) -> None:
        """Take a new configuration; what is out already ends under the old one."""
        self._reordering |= subscription.ordering != self.subscription.ordering
        self.subscription = subscription
        self._tell_courier()
        self._shard.bell.set()

    def drain(self) -> None:
        """Send nothing more."""
        self._draining = True

    def in_flight(self) -> int:
        """Count the requests that are out."""
        return len(self._in_flight)

    async def run(self) -> None:
        """Pump until the shard is lost."""
        try:
            await self._restore()
            while True:
                self._shard.bell.clear()  # before the look, or a ring is lost
                await self._turn()
                await self._wait()
        except LeaseLost:
            self._couriers.forget_endpoint(self._shard.id)

    def _tell_courier(self) -> None:
        subscription = self.subscription
        if subscription.endpoint is not None:
            self._couriers.set_endpoint(
                endpoint_of(subscription, self._shard.id, self._webhook_id_prefix, self._now())
            )

    # -- a turn ------------------------------------------------------------------------------------

    async def _restore(self) -> None:
        """Take over what waits in the store."""
        self._lanes = Lanes()
        self._parked = False
        await self._shard.regroup(self.subscription.ordering == "key")
        self._next_due_at = await self._shard.next_due_at(frozenset())
        if self.subscription.ordering == "key":
            for key in await self._shard.waiting_keys():
                self._lanes.restore(key)
        elif self.subscription.ordering == "topic":
            self._parked = self._next_due_at is not None

    async def _turn(self) -> None:
        if self._reordering and not self._in_memory():
            self._commit()
            await self._restore()
            self._reordering = False
        if self._may_send():
            await self._take_due()
            await self._take_wanted()
            await self._take_new()
            self._send()
        if self._in_flight:
            self._give_slow_ones_rows()
        self._commit()

    def _may_send(self) -> bool:
        subscription = self.subscription
        return not (
            self._draining
            or subscription.endpoint is None
            or subscription.paused
            or not self._couriers.alive()
            or self._hold_until > self._now()
        )

    def _in_memory(self) -> int:
        return len(self._in_flight) + len(self._ready) + self._lanes.waiting_count

    def _room(self) -> int:
        """Return how many more messages could be sent at once."""
        subscription = self.subscription
        size = subscription.max_batch if subscription.format == "batch" else 1
        slots = 1 if subscription.ordering == "topic" else subscription.max_in_flight
        free = (slots - len(self._in_flight)) * size
        # The next request's messages are read while this one is out.
        ahead = size if subscription.ordering == "topic" else 0
        return free + ahead - len(self._ready)

    def _room_for_due(self) -> int:
        """Return how many due rows could be sent; a parked topic waits for nothing else."""
        return self.subscription.max_batch if self._parked else self._room()

    async def _take_due(self) -> None:
        now = self._now()
        room = self._room_for_due()
        if self._next_due_at is None or self._next_due_at > now or room <= 0 or self._reordering:
            return
        self._commit()
        due = await self._shard.due(now, room, frozenset(self._with_row))
        returned = [self._from_row(item) for item in due]
        for delivery in returned:
            key = delivery.message.key
            if self.subscription.ordering == "key" and key is not None:
                self._lanes.resume(key)
        if self.subscription.ordering == "topic":
            self._parked = self._parked and not returned
            self._ready.extendleft(reversed(returned))
        else:
            self._ready.extend(returned)
        self._next_due_at = await self._shard.next_due_at(frozenset(self._with_row))

    def _from_row(self, due: Due) -> Delivery:
        self._with_row.add(due.row.seq)
        return Delivery(due.message, due.row.attempts, True)

    async def _take_wanted(self) -> None:
        """Read on for keys whose next message waits in the store."""
        while self._wanting:
            key = self._wanting.pop()
            if not self._lanes.wants_held(key):
                continue
            self._commit()
            rows = await self._shard.held(key, 0, HELD_PAGE)
            deliveries = [self._from_row(row) for row in rows]
            first = self._lanes.refill(key, deliveries, more=len(rows) == HELD_PAGE)
            if first is not None:
                self._ready.append(first)
            if self._lanes.wants_held(key):
                self._wanting.append(key)

    async def _take_new(self) -> None:
        while not self._reordering and (room := self._room()) > 0:
            if self._shard.room() < room and self._lanes.waiting_count:
                self._hold(self._lanes.spill_longest())
                self._commit()
            messages = await self._shard.fetch(room)
            if not messages:
                return
            by_key = self.subscription.ordering == "key"
            ready, covers = self._ready, self._shard.covers
            for message in messages:
                if covers(message.seq):
                    self._changes.done.append(message.seq)
                    continue
                delivery = Delivery(message)
                if not by_key or message.key is None:
                    ready.append(delivery)
                else:
                    self._admit(message.key, delivery)

    def _admit(self, key: str, delivery: Delivery) -> None:
        lane = self._lanes.admit(key, delivery)
        if lane is None:
            self._ready.append(delivery)
        elif lane.spilled:
            self._hold([delivery])

    def _send(self) -> None:
        subscription = self.subscription
        in_flight, ready = self._in_flight, self._ready
        one_by_one = subscription.ordering == "topic"
        slots = 1 if one_by_one else subscription.max_in_flight
        if not ready or self._parked or len(in_flight) >= slots:
            return
        batches: list[list[Delivery]] = []
        while ready and len(in_flight) + len(batches) < slots:
            batches.append(
                self._next_batch() if subscription.format == "batch" else [ready.popleft()]
            )
        requests = [
            (
                batch[0].attempts + 1,
                [Item(d.message.seq, d.message.attributes, d.message.data) for d in batch],
            )
            for batch in batches
        ]
        now = self._monotonic()
        for job, batch in zip(
            self._couriers.send(self, self._shard.id, requests), batches, strict=True
        ):
            in_flight[job] = Sent(batch, now)

    def _next_batch(self) -> list[Delivery]:
        """Take what goes into one request; later messages of a key may go behind its first."""
        size, by_key = self.subscription.max_batch, self.subscription.ordering == "key"
        batch: list[Delivery] = []
        while self._ready and len(batch) < size:
            delivery = self._ready.popleft()
            batch.append(delivery)
            key = delivery.message.key
            if by_key and key is not None:
                batch.extend(self._lanes.follow(key, size - len(batch)))
        return batch

    async def _wait(self) -> None:
        """Wait for the bell, or for the next thing that time brings."""
        bell = self._shard.bell
        if bell.is_set():
            await asyncio.sleep(0)
            return
        wait_s = self._until_next()
        timer = (
            None
            if wait_s is None
            else asyncio.get_running_loop().call_later(max(wait_s, 0.0), bell.set)
        )
        await bell.wait()
        if timer is not None:
            timer.cancel()

    def _until_next(self) -> float | None:
        waits = []
        if self._hold_until > self._now():
            waits.append(self._hold_until - self._now())
        if self._next_due_at is not None and self._may_send() and self._room_for_due() > 0:
            waits.append(self._next_due_at - self._now())
        if self._in_flight:
            waits.append(SLOW_S)
        return min(waits, default=None)

    # -- slow attempts -----------------------------------------------------------------------------

    def _give_slow_ones_rows(self) -> None:
        now = self._monotonic()
        if now - self._checked_slow_at < SLOW_S or self.subscription.ordering == "topic":
            return
        self._checked_slow_at = now
        for sent in self._in_flight.values():
            if now - sent.sent_at < SLOW_S:
                break  # the rest were sent later
            for delivery in sent.deliveries:
                if not delivery.has_row:
                    self._put(delivery, "leased", inf)
                key = delivery.message.key
                if self.subscription.ordering == "key" and key is not None:
                    self._hold(self._lanes.spill(key))

    # -- outcomes ----------------------------------------------------------------------------------

    def ended(self, job: int, outcome: Outcome) -> None:
        """Settle a request's deliveries. Called by the couriers, between turns."""
        sent = self._in_flight.pop(job)
        self._shard.bell.set()
        batch = self.subscription.format == "batch"
        positions = positions_of(outcome, len(sent.deliveries)) if batch else None
        if positions is None:
            if succeeded(outcome):
                for delivery in sent.deliveries:
                    self._ack(delivery)
            else:
                self._fail(sent.deliveries, outcome)
            return
        self._settle_positions(sent.deliveries, positions, outcome)

    def lost(self, job: int) -> None:
        """Send a request again that ended without an outcome; it has spent no attempt."""
        sent = self._in_flight.pop(job)
        self._ready.extendleft(reversed(sent.deliveries))
        self._shard.bell.set()

    def _fail(self, deliveries: Sequence[Delivery], outcome: Outcome) -> None:
        self.last_error = reason_of(outcome)
        now, drawn = self._now(), self._random()  # one draw: a batch that fails comes back as one
        self._hold_until = max(self._hold_until, now + hold_s(outcome, now))
        again: list[tuple[Delivery, Retry]] = []
        for delivery in deliveries:
            self._log_attempt(delivery, outcome)
            attempt = delivery.attempts + 1
            decision = decide(outcome, attempt, self.subscription.retry, now, lambda: drawn)
            if isinstance(decision, Retry):
                again.append((delivery, decision))
            else:
                self._settle(delivery, decision)
        if again:
            self._retry(again)

    def _settle_positions(
        self,
        deliveries: Sequence[Delivery],
        positions: dict[int, Decision | None],
        outcome: Outcome,
    ) -> None:
        """Settle a batch whose answer singles some out; None stands for a retry by the policy."""
        again: list[Delivery] = []
        stopped: set[str] = set()
        one_by_one = self.subscription.ordering == "topic"
        for position, delivery in enumerate(deliveries):
            key = delivery.message.key
            behind = (one_by_one and again) or (key is not None and key in stopped)
            if behind or (position in positions and positions[position] is None):
                again.append(delivery)
                if self.subscription.ordering == "key" and key is not None:
                    stopped.add(key)
            elif position in positions:
                self._settle(delivery, positions[position] or Ack())
            else:
                self._ack(delivery)
        if again:
            self._fail(again, asked_to_retry(outcome))

    def _settle(self, delivery: Delivery, decision: Decision) -> None:
        if isinstance(decision, Dead):
            delivery.attempts += 1
            self._put(delivery, "dead", reason=decision.reason)
            self._with_row.discard(delivery.message.seq)
            self._release(delivery)
        else:
            self._ack(delivery)

    def _ack(self, delivery: Delivery) -> None:
        seq = delivery.message.seq
        if delivery.has_row:
            self._changes.drop.append(seq)
            self._with_row.discard(seq)
        else:
            self._changes.done.append(seq)
        self._release(delivery)

    def _release(self, delivery: Delivery) -> None:
        """A delivery is done with: let its key's next one go."""
        key = delivery.message.key
        if self.subscription.ordering != "key" or key is None:
            return
        following = self._lanes.settled(key)
        if following is not None:
            self._ready.append(following)
        elif self._lanes.wants_held(key):
            self._wanting.append(key)

    def _retry(self, deliveries: Iterable[tuple[Delivery, Retry]]) -> None:
        """Put deliveries back in the store; of each key the first is due, the others wait."""
        by_key = self.subscription.ordering == "key"
        waiting: set[str] = set()
        for delivery, decision in deliveries:
            delivery.attempts += 1
            key = delivery.message.key
            if not by_key or key is None:
                self._put(delivery, "retry", decision.due_at, decision.reason)
            elif key not in waiting:
                waiting.add(key)
                self._put(delivery, "retry", decision.due_at, decision.reason)
                self._hold(self._lanes.park(key))
            else:
                self._put(delivery, "held", reason=decision.reason)
                self._lanes.unsend(key)
            self._with_row.discard(delivery.message.seq)
            if self._next_due_at is None or decision.due_at < self._next_due_at:
                self._next_due_at = decision.due_at
        self._parked = self.subscription.ordering == "topic"

    def _hold(self, deliveries: Iterable[Delivery]) -> None:
        """Have deliveries wait in the store, out of memory."""
        for delivery in deliveries:
            if not delivery.has_row:
                self._put(delivery, "held")
            self._with_row.discard(delivery.message.seq)

    def _put(
        self, delivery: Delivery, state: RowState, due_at: float = 0.0, reason: str = ""
    ) -> None:
        message = delivery.message
        delivery.has_row = True
        self._with_row.add(message.seq)
        self._changes.put.append(
            ExceptionRow(message.seq, message.key, state, delivery.attempts, due_at, reason)
        )

    def _log_attempt(self, delivery: Delivery, outcome: Outcome) -> None:
        self._changes.failed.append(
            FailedAttempt(
                delivery.message.seq,
                delivery.attempts + 1,
                self._now(),
                outcome.status or None,
                outcome.error,
                outcome.duration_ms,
                outcome.body[:1024].decode("utf-8", "replace"),
            )
        )

    def _commit(self) -> None:
        changes = self._changes
        if changes.put or changes.done or changes.drop:
            self._changes = _Pending()
            self._shard.commit(Changes(changes.put, changes.done, changes.drop, changes.failed))


class _Pending:
    """Changes that gather until the end of a turn."""

    __slots__ = ("done", "drop", "failed", "put")

    def __init__(self) -> None:
        self.put: list[ExceptionRow] = []
        self.done: list[int] = []
        self.drop: list[int] = []
        self.failed: list[FailedAttempt] = []


def endpoint_of(
    subscription: Subscription, id_: int, webhook_id_prefix: str, now: float
) -> Endpoint:
    """Say where and how a subscription's requests go."""
    if subscription.endpoint is None:
        raise ValueError("a subscription without an endpoint gets no requests")
    return Endpoint(
        id=id_,
        url=subscription.endpoint,
        format=subscription.format,
        keys=subscription.signing_keys(now),
        old_keys_until=[old.until for old in subscription.old_secrets if old.until > now],
        timeout_ms=round(subscription.timeout_s * 1000),
        headers=[
            f"webhook-subscription: {subscription.topic}/{subscription.name}",
            *(header_line(name, value) for name, value in subscription.headers.items()),
        ],
        webhook_id_prefix=webhook_id_prefix,
    )
