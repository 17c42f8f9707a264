"""The pump: takes a subscription's messages, has them sent, settles them."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.cloudevents import header_line
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Endpoint, Item, Outcome
from broker.dispatch.lanes import Delivery, Lanes
from broker.dispatch.policy import ACK, Ack, Dead, Decision, decide, hold_s, reason_of, succeeded
from broker.dispatch.verdicts import asked_to_retry, positions_of
from broker.model import ExceptionRow, FailedAttempt, Message, RowState
from broker.store.port import Changes, Due, LeaseLost, Shard
from broker.subscription import Subscription

# An attempt that takes longer gets a row, so that the position can pass it.
SLOW_S = 0.25
COURIER_POLL_S = 0.1
HELD_PAGE = 256
WHOLE_TOPIC = ""


@dataclass(slots=True, eq=False)
class Sent:
    """A request that is out. `batch` is its format; `sent_at` is on the monotonic clock."""

    deliveries: Sequence[Delivery]
    batch: bool
    sent_at: float


class Pump:
    """Drives one shard. `run` is its only task; outcomes come in between its turns.

    Order is kept by lanes: one for each key, or one for the whole topic. Every delivery that is
    owed is in one place: not fetched, ready, in a request, waiting in a lane, or a row in the
    store (`retry` for the first of a lane, `held` for those behind it).
    """

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
        # The order in force: another one begins only once nothing is in memory.
        self._ordering = subscription.ordering
        self._lanes = Lanes()
        self._ready: deque[Delivery] = deque()
        self._in_flight: dict[int, Sent] = {}
        self._wanting: list[str] = []
        self._taken: set[int] = set()  # in memory, and with a retry row in the store
        self._next_due_at: float | None = None
        self._checked_slow_at = 0.0
        self._changes = _Pending()
        self._hold_until = 0.0
        self._draining = False
        self.last_error: str | None = None
        self.subscription = subscription
        self._tell_courier()

    # -- from outside ------------------------------------------------------------------------------

    def configure(self, subscription: Subscription) -> None:
        """Take a new configuration; what is out already ends under the old one."""
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
        """Take over what waits in the store, in the order asked for."""
        self._ordering = self.subscription.ordering
        self._lanes = Lanes()
        self._wanting.clear()
        await self._shard.regroup(self._ordering)
        self._next_due_at = await self._shard.next_due_at(frozenset())
        if self._ordering == "key":
            for key in await self._shard.waiting_keys():
                self._lanes.restore(key)
        elif self._ordering == "topic" and self._next_due_at is not None:
            self._lanes.restore(WHOLE_TOPIC)

    async def _turn(self) -> None:
        if self._reordering() and not self._in_memory():
            self._commit()
            await self._restore()
        if self._may_take():
            await self._take_due()
            await self._take_held()
            await self._take_new()
        if self._may_send():  # asked again: much may have changed while rows were read
            self._send()
        if self._in_flight:
            self._give_slow_ones_rows()
        self._commit()

    def _reordering(self) -> bool:
        return self._ordering != self.subscription.ordering

    def _may_take(self) -> bool:
        return self._may_send() and not self._reordering()

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

    def _request_size(self) -> int:
        return self.subscription.max_batch if self.subscription.format == "batch" else 1

    def _free(self) -> int:
        """Return how many more messages could be sent at once."""
        slots = self.subscription.max_in_flight - len(self._in_flight)
        return slots * self._request_size() - len(self._ready)

    def _room(self) -> int:
        """Return how many new messages to read."""
        if self._ordering != "topic":
            return self._free()
        # One lane takes them all. Its next request is read while one is out, and what the store
        # has of it goes first: an ordered topic that waits moves nothing into rows.
        if self._lanes.in_store(WHOLE_TOPIC):
            return 0
        return 2 * self._request_size() - self._lanes.memory_count(WHOLE_TOPIC)

    async def _take_due(self) -> None:
        now, free = self._now(), self._free()
        if self._next_due_at is None or self._next_due_at > now or free <= 0:
            return
        self._commit()
        self._next_due_at = None  # an attempt that fails while rows are read sets it again
        for due in await self._shard.due(now, free, frozenset(self._taken)):
            self._taken.add(due.row.seq)
            delivery = self._from_row(due)
            self._ready.append(delivery)
            if delivery.lane is not None:
                self._lanes.resume(delivery.lane, delivery)
                if self.subscription.format == "batch":
                    self._wanting.append(delivery.lane)  # what was held goes along behind it
        self._due_by(await self._shard.next_due_at(frozenset(self._taken)))

    def _due_by(self, at: float | None) -> None:
        if at is not None and (self._next_due_at is None or at < self._next_due_at):
            self._next_due_at = at

    def _lane_of(self, message: Message) -> str | None:
        if self._ordering == "key":
            return message.key
        return WHOLE_TOPIC if self._ordering == "topic" else None

    def _from_row(self, due: Due) -> Delivery:
        row = due.row
        lane = self._lane_of(due.message)
        return Delivery(due.message, lane, row.attempts, row.state, row.reason)

    async def _take_held(self) -> None:
        """Read on in lanes whose next message waits in the store. None of them is in flight."""
        while self._wanting:
            lane = self._wanting.pop()
            if not self._lanes.wants_held(lane):
                continue
            self._commit()
            key = lane if self._ordering == "key" else None
            rows = await self._shard.held(key, self._lanes.last_seq(lane), HELD_PAGE)
            following = self._lanes.refill(
                lane, [self._from_row(row) for row in rows], more=len(rows) == HELD_PAGE
            )
            if following is not None:
                self._ready.append(following)

    async def _take_new(self) -> None:
        while (room := self._room()) > 0:
            self._commit()  # the shard has room again for what is done with or has a row
            if not self._shard.room() and self._lanes.waiting_count:
                self._make_way(self._lanes.longest())
                continue
            messages = await self._shard.fetch(room)
            if not messages:
                return
            for message in messages:
                if self._shard.covers(message.seq):
                    self._changes.done.append(message.seq)
                else:
                    self._admit(Delivery(message, self._lane_of(message)))

    def _admit(self, delivery: Delivery) -> None:
        lane = None if delivery.lane is None else self._lanes.admit(delivery.lane, delivery)
        if lane is None:
            self._ready.append(delivery)
        elif lane.spilled:
            self._hold(delivery)

    def _send(self) -> None:
        batch = self.subscription.format == "batch"
        free = self.subscription.max_in_flight - len(self._in_flight)
        batches: list[list[Delivery]] = []
        while self._ready and len(batches) < free:
            batches.append(self._next_batch() if batch else [self._ready.popleft()])
        if not batches:
            return
        requests = [
            (
                deliveries[0].attempts + 1,
                [Item(d.message.seq, d.message.attributes, d.message.data) for d in deliveries],
            )
            for deliveries in batches
        ]
        now = self._monotonic()
        jobs = self._couriers.send(self, self._shard.id, requests)
        for job, deliveries in zip(jobs, batches, strict=True):
            self._in_flight[job] = Sent(deliveries, batch, now)

    def _next_batch(self) -> list[Delivery]:
        """Take what goes into one request; later messages of a lane may go behind its first."""
        size = self.subscription.max_batch
        batch: list[Delivery] = []
        while self._ready and len(batch) < size:
            delivery = self._ready.popleft()
            batch.append(delivery)
            if delivery.lane is not None:
                batch += self._lanes.follow(delivery.lane, size - len(batch))
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
        if self._next_due_at is not None and self._may_take() and self._free() > 0:
            waits.append(self._next_due_at - self._now())
        if self._in_flight:
            waits.append(SLOW_S)
        if not self._couriers.alive():
            waits.append(COURIER_POLL_S)  # a new one rings for what was sent, not for what came
        return min(waits, default=None)

    # -- slow attempts -----------------------------------------------------------------------------

    def _give_slow_ones_rows(self) -> None:
        now = self._monotonic()
        if now - self._checked_slow_at < SLOW_S or self._ordering == "topic":
            return  # nothing passes a slow attempt of an ordered topic
        self._checked_slow_at = now
        for sent in self._in_flight.values():
            if now - sent.sent_at < SLOW_S:
                break  # the rest were sent later
            for delivery in sent.deliveries:
                self._lease(delivery)
            for lane in {delivery.lane for delivery in sent.deliveries}:
                if lane is not None:
                    self._make_way(lane)

    def _make_way(self, lane: str) -> None:
        """Have what waits in a lane wait in the store, behind rows of what is out."""
        for delivery in self._lanes.out(lane):
            self._lease(delivery)
        for delivery in self._lanes.spill(lane):
            self._hold(delivery)

    # -- outcomes ----------------------------------------------------------------------------------

    def ended(self, job: int, outcome: Outcome) -> None:
        """Settle a request's deliveries. Called by the couriers, between turns."""
        sent = self._in_flight.pop(job)
        self._shard.bell.set()
        positions = positions_of(outcome, len(sent.deliveries)) if sent.batch else None
        if positions is not None:
            self._settle(sent.deliveries, positions, asked_to_retry(outcome))
        elif succeeded(outcome):
            for delivery in sent.deliveries:
                self._ack(delivery)
        else:
            self._settle(sent.deliveries, dict.fromkeys(range(len(sent.deliveries)), None), outcome)

    def lost(self, job: int) -> None:
        """Send a request again that ended without an outcome; it has spent no attempt."""
        sent = self._in_flight.pop(job)
        again = []
        for delivery in sent.deliveries:
            if delivery.lane is not None:
                if delivery is not self._lanes.out(delivery.lane)[0]:
                    continue  # it waits behind the first of its lane again
                self._lanes.unfollow(delivery.lane)
            again.append(delivery)
        self._ready.extendleft(reversed(again))
        self._shard.bell.set()

    def _settle(
        self,
        deliveries: Sequence[Delivery],
        positions: Mapping[int, Decision | None],
        failure: Outcome,
    ) -> None:
        """Settle a request of which some positions were not taken; None stands for the policy.

        What stands behind the first retry of a lane waits in the store for that one.
        """
        now, drawn = self._now(), self._random()  # one draw: a batch that fails comes back as one
        policy = self.subscription.retry
        stopped: set[str] = set()
        for position, delivery in enumerate(deliveries):
            decision = positions.get(position, ACK)
            behind = delivery.lane in stopped
            if decision is None or behind:
                self.last_error = reason_of(failure)
                self._hold_until = max(self._hold_until, now + hold_s(failure, now))
                self._log_attempt(delivery, failure)
                attempt = delivery.attempts + 1
                decision = decide(failure, attempt, policy, now, lambda: drawn)
            if isinstance(decision, Ack):
                self._ack(delivery)
                continue
            delivery.attempts += 1
            self._taken.discard(delivery.message.seq)
            delivery.reason = decision.reason
            if behind:
                self._put(delivery, "held")
            elif isinstance(decision, Dead):
                self._put(delivery, "dead")
                self._release(delivery)
            else:
                self._put(delivery, "retry", decision.due_at)
                self._due_by(decision.due_at)
                if delivery.lane is not None:
                    stopped.add(delivery.lane)
        for lane in stopped:
            for delivery in self._lanes.park(lane):
                self._hold(delivery)

    def _ack(self, delivery: Delivery) -> None:
        seq = delivery.message.seq
        if delivery.row is None:
            self._changes.done.append(seq)
        else:
            self._changes.drop.append(seq)
            self._taken.discard(seq)
        self._release(delivery)

    def _release(self, delivery: Delivery) -> None:
        """A delivery is done with: let its lane's next one go."""
        lane = delivery.lane
        if lane is None:
            return
        following = self._lanes.settled(lane)
        if following is not None:
            self._ready.append(following)
        elif self._lanes.wants_held(lane):
            self._wanting.append(lane)

    # -- rows --------------------------------------------------------------------------------------

    def _lease(self, delivery: Delivery) -> None:
        """Give a delivery that is out a row, so that the position can pass it."""
        if delivery.row is None:
            self._put(delivery, "leased")

    def _hold(self, delivery: Delivery) -> None:
        """Have a delivery wait in the store, out of memory."""
        if delivery.row != "held":
            self._put(delivery, "held")

    def _put(self, delivery: Delivery, state: RowState, due_at: float = 0.0) -> None:
        delivery.row = state
        message = delivery.message
        self._changes.put.append(
            ExceptionRow(
                message.seq, message.key, state, delivery.attempts, due_at, delivery.reason
            )
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
