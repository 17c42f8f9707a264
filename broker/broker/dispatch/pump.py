"""The pump: takes a subscription's messages, has them sent, settles them."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any, TypeVar

from msgspec import Struct

from broker.ack_urls import Claim, token_of
from broker.cloudevents import EXPIRYTIME, expires_at
from broker.consent import ORIGIN, Agreement, ConsentState
from broker.dispatch import incidents
from broker.dispatch.asking import Asking
from broker.dispatch.circuit import Circuit
from broker.dispatch.couriers import Couriers
from broker.dispatch.endpoint import endpoint_of
from broker.dispatch.frames import Outcome
from broker.dispatch.intake import Intake
from broker.dispatch.interventions import Interventions
from broker.dispatch.lanes import Delivery
from broker.dispatch.ledger import Ledger
from broker.dispatch.memory import MOST_BYTES, Memory
from broker.dispatch.policy import (
    NO_RECEIPT,
    Ack,
    GiveUp,
    Gone,
    Retry,
    counts_for_circuit,
    hold_s,
    reason_of,
    succeeded,
)
from broker.dispatch.puller import MAX_PULLED_BYTES, Pull, Pulled, Puller
from broker.dispatch.reminders import Reminders
from broker.dispatch.settlement import (
    ASKED_FOR_DEAD_LETTER,
    ASKED_TO_RETRY,
    NO_ANSWER,
    Settlement,
)
from broker.dispatch.verdicts import LateVerdict, positions_of
from broker.filters.dialects import wants
from broker.model import ExceptionRow, size_of
from broker.rate import RateLimit
from broker.signing import key_of
from broker.store.port import Due, LeaseLost, Shard, Unavailable
from broker.subscription import Subscription

T = TypeVar("T")

# An attempt that takes longer gets a row, so that the position can pass it.
SLOW_S = 0.25
COURIER_POLL_S = 0.1
REPLAY_HEADER = "webhook-replay: true"


class Sent(Struct, eq=False, gc=False):
    """A request that is out. `sent_at` is on the monotonic clock.

    `settled` means that nothing of it is owed any more, whatever the outcome; `void` that a seek
    came meanwhile. `verdict` is one that was given before the answer, `extended_s` how much longer
    it may take after one that is `later`. `bytes` are those of one that was sent as settled.
    """

    deliveries: Sequence[Delivery]
    sent_at: float
    batch: bool
    probe: bool = False
    settled: bool = False
    void: bool = False
    verdict: LateVerdict | None = None
    extended_s: float | None = None
    bytes: int = 0


class Pump:
    """Drives one shard. `run` is its only task; outcomes come in between its turns.

    `pause` is called with a reason when the endpoint wants nothing more, `remember` with what it
    has agreed to when it was asked for its consent.
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
        pause: Callable[[Subscription, str], None] = lambda _, __: None,
        remember: Callable[[Subscription, Agreement], None] = lambda _, __: None,
        origin: str = ORIGIN,
        public_url: str | None = None,
        most_bytes: Callable[[], int] = lambda: MOST_BYTES,
        reminders: Reminders | None = None,
    ) -> None:
        self._shard = shard
        self._most_bytes = most_bytes
        self._settled_bytes = 0  # of requests that are out and owe nothing
        self._couriers = couriers
        self._webhook_id_prefix = webhook_id_prefix
        self._now = now
        self._monotonic = monotonic
        self._pause = pause
        self._remember = remember
        self._public_url = public_url
        self._in_flight: dict[int, Sent] = {}
        self._memory = Memory(subscription.ordering)
        self._ledger = Ledger(shard, now)
        self._settlement = Settlement(self._ledger, self._memory, random=random, now=now)
        self.tally = self._settlement.tally
        self._circuit = Circuit()
        self._rate = RateLimit(subscription.rate_limit)
        self.asking = Asking(
            subscription,
            couriers,
            shard.id,
            origin,
            now=now,
            monotonic=monotonic,
            agreed=self._agreed,
            ring=shard.bell.set,
        )
        self._acts: deque[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = deque()
        self._hold_until = shard.hold_until
        self._turned_at = 0.0, 0.0
        self._tokens = inf
        self._requests = inf  # that the endpoint's consent lets through now
        self._checked_slow_at = 0.0
        self._draining = False
        self._promised = False  # settled on disk and about to be sent
        self._untold = False  # the courier does not know the present configuration
        self._reordering = False
        self._reminders = reminders or Reminders(SLOW_S, time.monotonic)
        self._reminded = False  # is about to be reminded of what is out
        self._resting = False  # its task waits for the bell
        self._settling = False  # what has been settled is about to be written without a turn
        self._intake = Intake(
            shard,
            self._ledger,
            self._memory,
            self._settlement,
            now,
            room=self._room,
            full=self._full,
        )
        self._puller = Puller(
            shard, self._intake, self._ledger, self._memory, self._settlement, now
        )
        self.interventions = Interventions(
            self, self._intake, shard, self._ledger, self._memory, self._settlement, now
        )
        shard.select(wants(subscription.filters))
        self._use(subscription)

    # -- from outside ------------------------------------------------------------------------------

    def configure(self, subscription: Subscription) -> None:
        """Take a new configuration; what is out already ends under the old one."""
        before = self.subscription
        if subscription.filters != before.filters:
            self._shard.select(wants(subscription.filters))
        self._reordering |= subscription.ordering != before.ordering
        if subscription.rate_limit != before.rate_limit:
            self._rate = RateLimit(subscription.rate_limit)
        if subscription.endpoint != before.endpoint:
            if not self._circuit.closed:
                incidents.endpoint_replaced(subscription)
            self._circuit = Circuit()
            self._hold(0.0)
        self._use(subscription)
        self._shard.bell.set()

    def _use(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._settlement.configure(subscription)
        self.asking.use(subscription)
        if subscription.endpoint is not None:
            self._puller.dismiss()
        self._tell_courier()

    def _tell_courier(self) -> None:
        """Say where requests go from now on; but what is promised goes where it was promised to."""
        if self.subscription.endpoint is None:
            return
        self._untold = self._promised
        if not self._promised:
            prefix, now = self._webhook_id_prefix, self._now()
            self._couriers.set_endpoint(endpoint_of(self.subscription, self._shard.id, prefix, now))

    async def perform(self, act: Callable[[], Awaitable[T]]) -> T:
        """Have the pump's task do something between two turns; return what that returns.

        Raises LeaseLost if the shard is lost before, Unavailable if the pump is ended in the midst.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._acts.append((act, done))
        self._shard.bell.set()
        return await done

    def pull(
        self, limit: int, *, patient: bool, most_bytes: int = MAX_PULLED_BYTES
    ) -> asyncio.Future[list[Pulled]]:
        """Ask for up to `limit` deliveries; cancel what is returned to ask no more.

        There are no more once their messages have `most_bytes`. Who is `patient` waits until there
        are some, and for ever once nothing more is sent: to ask again would have the same answer.
        It ends with none where the subscription ends, or is not pulled from any more.
        """
        answer: asyncio.Future[list[Pulled]] = asyncio.get_running_loop().create_future()
        if self._shard.lost or self.subscription.endpoint is not None:
            answer.set_result([])
        elif self._draining:
            if not patient:
                answer.set_result([])
        else:
            self._puller.add(Pull(limit, most_bytes, answer, patient))
            self._shard.bell.set()
        return answer

    def drain(self) -> None:
        """Send nothing more."""
        self._draining = True
        self._puller.dismiss()

    def idle(self) -> bool:
        """Say whether nothing is out, nor about to be."""
        return not (self._in_flight or self._promised)

    def let_go(self) -> None:
        """Give rows to all that is in memory, so that the position passes what is settled.

        Call it once `run` has ended. An ordered topic needs none: it settles nothing out of order.
        """
        if self._shard.lost or self._memory.ordering == "topic":
            return
        for sent in self._in_flight.values():
            for delivery in sent.deliveries:
                if delivery.row is None and not sent.settled:
                    self._ledger.lease(delivery)
        self._ledger.hold(self._memory.all())
        self._ledger.commit()

    def in_flight(self) -> int:
        """Count the requests that are out."""
        return len(self._in_flight)

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed that did, or why there is no consent to any."""
        return self.asking.reason or self._settlement.last_error

    @property
    def consent_state(self) -> ConsentState | None:
        """How the endpoint stands to being sent to; None where it is not asked."""
        return self.asking.state

    @property
    def shard_id(self) -> int:
        """Which shard it drives."""
        return self._shard.id

    @property
    def settlement(self) -> Settlement:
        """What settles its deliveries."""
        return self._settlement

    def circuit_closed(self) -> bool:
        """Say whether attempts are made as usual."""
        return self._circuit.closed

    def sent(self) -> Sequence[Sent]:
        """Return the requests that are out, the oldest first."""
        return list(self._in_flight.values())

    def owes(self, seq: int) -> bool:
        """Say whether a message that has no row is not done."""
        return self._shard.owes(seq)

    def outstanding(self) -> list[Due]:
        """Return what is out, as rows that are leased without an end."""
        return [
            Due(
                ExceptionRow(
                    delivery.message.seq,
                    delivery.message.key,
                    "leased",
                    delivery.attempts,
                    inf,
                    "",
                    delivery.replayed_at is not None,
                ),
                delivery.message,
            )
            for sent in self._in_flight.values()
            if not sent.settled
            for delivery in sent.deliveries
        ]

    async def run(self) -> None:
        """Pump until the shard is lost."""
        try:
            await self._intake.restore()
            await self._puller.look_for_leases()
            while True:
                self._shard.bell.clear()  # before the look, or a ring is lost
                await self._turn()
                await self._wait()
        except LeaseLost:
            self._couriers.forget_endpoint(self._shard.id)
        finally:
            self._puller.dismiss()
            while self._acts:
                _, done = self._acts.popleft()
                if not done.done():
                    done.set_exception(self._end())

    # -- a turn ------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        if self._shard.lost:
            raise self._end()
        self._turned_at = self._now(), self._monotonic()
        while self._acts:
            await self._act(*self._acts.popleft())
        if self._reordering and not self._in_flight:
            # What is in memory in the old order goes to the store, and comes back in the new one.
            self._reordering = False  # before the awaits, at which it may be changed again
            self._ledger.hold(self._memory.all())
            self._ledger.commit()
            await self._intake.restore()
        self._memory.end_leases(self._now())
        if self._may_ask():
            self.asking.ask_when_due()
        if self._may_send():
            self._tokens = self._rate.available(self._monotonic())
            self._requests = self.asking.allowed.available(self._monotonic())
            await self._intake.take()
        if self._may_send():  # asked again: much may have changed meanwhile
            await self._send()
        if self.subscription.endpoint is None:
            await self._puller.end_lapsed()
            if self._may_be_pulled():
                await self._puller.serve(self.subscription, self._rate, self._monotonic())
            else:
                self._puller.dismiss_impatient()
        if self._in_flight:
            self._give_slow_ones_rows()
        self._ledger.commit()

    async def _act(self, act: Callable[[], Awaitable[Any]], done: asyncio.Future[Any]) -> None:
        self._ledger.commit()
        try:
            result = await act()
        except BaseException as error:
            if not done.done():
                ended = isinstance(error, asyncio.CancelledError)
                done.set_exception(self._end() if ended else error)
            if not isinstance(error, Exception) or isinstance(error, LeaseLost):
                raise
            return
        if not done.done():
            done.set_result(result)

    def _end(self) -> Exception:
        """Tell why nothing more is done for those who wait."""
        name = self.subscription.name
        return LeaseLost(name) if self._shard.lost else Unavailable(f"{name}: the broker stops")

    def _may_send(self) -> bool:
        subscription = self.subscription
        return not (
            self._draining
            or self._reordering
            or subscription.endpoint is None
            or subscription.paused
            or not self.asking.granted
            or not self._couriers.reaches(self._shard.id)
            or self._hold_until > self._now()
        )

    def _may_ask(self) -> bool:
        reached = self._couriers.reaches(self._shard.id)
        return reached and not (self.asking.granted or self._draining)

    def _may_be_pulled(self) -> bool:
        subscription = self.subscription
        return not (
            self._draining
            or self._reordering
            or subscription.endpoint is not None
            or subscription.paused
        )

    def _slots(self) -> int:
        """Return how many requests may begin now."""
        subscription = self.subscription
        most = 1 if subscription.ordering == "topic" else subscription.max_in_flight
        allowed = min(self._circuit.slots(self._monotonic()), self._requests)
        return int(min(most - len(self._in_flight), allowed))

    def _room(self) -> int:
        """Return how many more messages could be sent, or handed out, at once."""
        if self.subscription.endpoint is None:
            return self._puller.wanted - len(self._memory.ready)
        size = self.subscription.request_size()
        room = self._slots() * size
        if self.subscription.ordering == "topic" and self._circuit.closed:
            room += size  # the next request's messages are read while this one is out
        return int(min(room, self._tokens)) - len(self._memory.ready)

    def _full(self) -> bool:
        """Say whether there are as many bytes in memory as there may be."""
        outstanding, with_rows = self._shard.outstanding_bytes(), self._ledger.bytes_in_memory
        return outstanding + with_rows + self._settled_bytes >= self._most_bytes()

    # -- sending -----------------------------------------------------------------------------------

    async def _send(self) -> None:
        slots = self._slots()
        if slots <= 0 or not self._memory.sendable():
            return
        batches = self._batches(slots)
        if not batches:
            return
        settled = self.subscription.guarantee == "at-most-once"
        if settled:
            self._promised = True
            await self._settle_first(batches)
            self._promised = False
        self._dispatch(batches, settled)
        if self._untold:
            self._tell_courier()

    def _batches(self, slots: int) -> list[list[Delivery]]:
        """Take what goes into each request that begins now; what has expired is settled instead."""
        memory, size, now = self._memory, self.subscription.request_size(), self._now()
        batches: list[list[Delivery]] = []
        while len(batches) < slots and self._tokens >= 1 and memory.sendable():
            batch = memory.take(int(min(size, self._tokens)))
            # One search for all: hardly any message expires.
            if EXPIRYTIME in b"".join([each.message.attributes for each in batch]):
                batch = self._without_expired(batch, now)
            if batch:
                batches.append(batch)
                self._tokens -= len(batch)
                self._rate.take(len(batch))
        self._requests -= len(batches)
        self.asking.allowed.take(len(batches))
        return batches

    def _without_expired(self, batch: Sequence[Delivery], now: float) -> list[Delivery]:
        """Settle what has expired, and return the rest."""
        rest: list[Delivery] = []
        for delivery in batch:
            expires = expires_at(delivery.message.attributes)
            if expires is not None and expires <= now:
                self._settlement.expire(delivery)
                self._shard.bell.set()  # there may be room for others now
            else:
                rest.append(delivery)
        return rest

    async def _settle_first(self, batches: Sequence[Sequence[Delivery]]) -> None:
        """Have it on disk that these are settled, before they are sent.

        What waits behind their keys goes to the store, so that the position can pass it.
        """
        for batch in batches:
            self._ledger.settle(batch)
        self._settlement.let_position_pass(
            delivery
            for sent in self._in_flight.values()
            if not sent.settled
            for delivery in sent.deliveries
        )
        committed = self._ledger.commit(soon=True)
        if committed is not None:
            await committed

    def _dispatch(self, batches: Sequence[list[Delivery]], settled: bool) -> None:
        shard, now = self._shard, self._monotonic()
        requests = [
            (
                batch[0].attempts + 1,
                [each.message for each in batch],
                self._headers(batch),
            )
            for batch in batches
        ]
        batched = self.subscription.format == "batch"
        jobs = self._couriers.send(self, shard.id, requests)
        for job, batch in zip(jobs, batches, strict=True):
            sent = self._in_flight[job] = Sent(
                batch, now, batched, self._circuit.sending(), settled
            )
            if settled:
                sent.bytes = sum(size_of(each.message) for each in batch)
                self._settled_bytes += sent.bytes

    def _headers(self, batch: Sequence[Delivery]) -> list[str]:
        headers = []
        if batch[0].replayed_at is not None or (
            len(batch) > 1 and any(each.replayed_at is not None for each in batch)
        ):
            headers.append(REPLAY_HEADER)
        subscription = self.subscription
        if subscription.allow_later and self._public_url is not None:
            claim = Claim(
                self._shard.id,
                self._shard.generation,
                [each.message.seq for each in batch],
                [each.attempts + 1 for each in batch],
            )
            token = token_of(claim, key_of(subscription.secret))
            place = f"{subscription.topic}/{subscription.name}"
            headers.append(f"webhook-ack-url: {self._public_url}/v1/acks/{place}/{token}")
        return headers

    async def _wait(self) -> None:
        """Wait for the bell, or for the next thing that time brings."""
        bell = self._shard.bell
        if bell.is_set():
            await asyncio.sleep(0)
            return
        if self._in_flight and not self._reminded:
            self._reminded = True
            self._reminders.ask(self._look_for_slow_ones)
        wait_s = self._until_next()
        timer = (
            None
            if wait_s is None
            else asyncio.get_running_loop().call_later(max(wait_s, 0.0), bell.set)
        )
        self._resting = True
        try:
            await bell.wait()
        finally:
            self._resting = False
        if timer is not None:
            timer.cancel()

    def _until_next(self) -> float | None:
        now, monotonic = self._now(), self._monotonic()
        # What the turn found shut may have opened since: then the next one is due at once.
        turned_at, turned_at_monotonic = self._turned_at
        waits = []
        if self._hold_until > turned_at:
            waits.append(self._hold_until - now)
        if self.subscription.endpoint is not None and not self._couriers.reaches(self._shard.id):
            waits.append(COURIER_POLL_S)
        elif self._may_ask() and (asks_in_s := self.asking.until_next()) is not None:
            waits.append(asks_in_s)
        if self._memory.leases:
            waits.append(self._memory.leases[0].until - now)
        if self.subscription.endpoint is None:
            waits += self._until_pulled(now, monotonic)
        if self._may_send():
            if (opens_at := self._circuit.opens_at(turned_at_monotonic)) is not None:
                waits.append(opens_at - monotonic)
            elif self._memory.next_due_at is not None and self._intake.wants_due():
                waits.append(self._memory.next_due_at - now)
            if self._tokens < 1:
                waits.append(self._rate.until_next(monotonic))
            if self._requests < 1:
                waits.append(self.asking.allowed.until_next(monotonic))
        return min(waits, default=None)

    def _until_pulled(self, now: float, monotonic: float) -> list[float]:
        waits = []
        if (lapses_at := self._puller.lapses_at()) is not None:
            waits.append(lapses_at - now)
        if self._may_be_pulled() and self._puller.waits():
            if self._puller.held_back:
                waits.append(self._rate.until_next(monotonic))
            elif self._memory.next_due_at is not None:
                waits.append(self._memory.next_due_at - now)
        return waits

    # -- slow attempts -----------------------------------------------------------------------------

    def _look_for_slow_ones(self) -> None:
        self._reminded = False
        first = next(iter(self._in_flight.values()), None)
        if first is None:
            return
        if self._monotonic() - first.sent_at >= SLOW_S:
            self._shard.bell.set()
        else:
            self._reminded = True
            self._reminders.ask(self._look_for_slow_ones)

    def _give_slow_ones_rows(self) -> None:
        now = self._monotonic()
        if now - self._checked_slow_at < SLOW_S or self.subscription.ordering == "topic":
            return
        self._checked_slow_at = now
        for sent in self._in_flight.values():
            if now - sent.sent_at < SLOW_S:
                break  # the rest were sent later
            for delivery in sent.deliveries:
                if delivery.row is None and not sent.settled:
                    self._ledger.lease(delivery)
                key = self._memory.lane_of(delivery)
                if key is not None:
                    self._ledger.hold(self._memory.lanes.spill(key))

    # -- outcomes ----------------------------------------------------------------------------------

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Settle requests' deliveries. Called by the couriers, between turns."""
        stirred = False
        taken: list[Sent] = []
        for outcome in outcomes:
            sent = self._in_flight.pop(outcome.job)
            if self._circuit.closed and self._simply_took(sent, outcome):
                taken.append(sent)
                continue
            self._end_all(taken)
            taken = []
            stirred |= self._end_one(sent, outcome)
        self._end_all(taken)
        if stirred or not self._resting or self._wants_turn():
            self._shard.bell.set()
        else:
            self._settle_soon()

    def _simply_took(self, sent: Sent, outcome: Outcome) -> bool:
        """Say whether the endpoint took all that a request had, and nothing else is to be done."""
        return (
            succeeded(outcome)
            and not outcome.headers
            and not (sent.batch and outcome.body)
            and not sent.settled
            and sent.verdict is None
            and not self._settlement.terms.needs_receipt
        )

    def _end_all(self, requests: Sequence[Sent]) -> None:
        """End requests that were simply taken, all at once."""
        if not requests:
            return
        now = self._monotonic()
        self._circuit.answered()
        self._settlement.tally.answered.observe_all([now - sent.sent_at for sent in requests])
        self._settlement.ack([delivery for sent in requests for delivery in sent.deliveries])

    def _end_one(self, sent: Sent, outcome: Outcome) -> bool:
        """End a request; say whether a turn is to look what may be sent because of that."""
        down, closed = counts_for_circuit(outcome), self._circuit.closed
        if down:
            self._circuit.failed(self._monotonic(), probe=sent.probe)
        else:
            self._circuit.answered()
        ok = succeeded(outcome)
        tally = self._settlement.tally
        (tally.answered if ok else tally.failed).observe(self._monotonic() - sent.sent_at)
        if not ok and not sent.void:
            self._note(outcome)
        if closed is not self._circuit.closed:
            self._tell_of_circuit(outcome)
        if sent.settled:
            if ok and not sent.void:
                tally.acked += len(sent.deliveries)
            elif not sent.void:
                tally.dropped += len(sent.deliveries)
            self._end_settled(sent, None if ok else outcome)
        elif sent.verdict is not None:
            self._apply(sent, sent.verdict, outcome)
        elif ok and not outcome.headers and not self._settlement.terms.needs_receipt:
            self._ack(sent, outcome)
        elif sent.probe and down:
            self._memory.give_back(sent.deliveries)  # a failed probe spends no attempt
        else:
            self._decide(sent, outcome)
        return not (ok and closed)

    def _wants_turn(self) -> bool:
        """Say whether the end of a request may let something happen but what is to be written."""
        memory = self._memory
        return bool(
            memory.ready
            or memory.wanting
            or memory.leases
            or memory.next_due_at is not None
            or self._shard.behind()
            or self._reordering
        )

    def _settle_soon(self) -> None:
        """Have what is settled written, once for all outcomes that come together.

        A turn would cost as much as the rest of a delivery, and where many subscriptions each get
        little there would be one for every outcome.
        """
        if not self._in_flight:
            self._settle()
        elif not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        if not self._resting or self._shard.bell.is_set():
            return  # a turn writes it
        self._ledger.commit()

    def _tell_of_circuit(self, outcome: Outcome) -> None:
        if self._circuit.closed:
            incidents.endpoint_back(self.subscription)
        else:
            incidents.endpoint_down(self.subscription, reason_of(outcome))

    def lost(self, job: int) -> None:
        """Hear that a request ended without an outcome; it has spent no attempt."""
        sent = self._in_flight.pop(job)
        self._shard.bell.set()
        if sent.probe:
            self._circuit.unsent()
        if sent.settled:
            self._end_settled(sent, None)
        elif sent.verdict is not None:
            self._apply(sent, sent.verdict, NO_ANSWER)
        else:
            self._memory.give_back(sent.deliveries)

    def _note(self, outcome: Outcome) -> None:
        """Remember why an attempt failed, and for how long the endpoint wants to be left alone."""
        self._settlement.last_error = reason_of(outcome)
        now = self._now()
        wait_s = hold_s(outcome, now)
        if wait_s and now + wait_s > self._hold_until:
            self._hold(now + wait_s)
        if outcome.status == 410 and not self.subscription.paused:
            self.subscription = replace(
                self.subscription, paused=True, paused_reason=self._settlement.last_error
            )
            incidents.endpoint_gone(self.subscription)
            self._pause(self.subscription, self._settlement.last_error)

    def _agreed(self, agreement: Agreement) -> None:
        """Hear that the endpoint has agreed to be sent to."""
        if self._shard.lost:
            return  # the subscription is gone, and the couriers have forgotten its endpoint
        self._use(replace(self.subscription, agreement=agreement))
        self._remember(self.subscription, agreement)

    def _hold(self, until: float) -> None:
        if until != self._hold_until:
            self._hold_until = until
            self._ledger.hold_until(until)

    def _end_settled(self, sent: Sent, failure: Outcome | None) -> None:
        self._settled_bytes -= sent.bytes
        for delivery in sent.deliveries:
            if failure is not None and not sent.void:
                self._ledger.log(delivery, failure, reason_of(failure))
        self._memory.release(sent.deliveries)

    def _ack(self, sent: Sent, outcome: Outcome) -> None:
        if sent.batch and (positions := positions_of(outcome, len(sent.deliveries))):
            self._settlement.last_error = (
                ASKED_TO_RETRY if positions.retry else ASKED_FOR_DEAD_LETTER
            )
            decisions = self._settlement.singled_out(positions, sent.deliveries)
            self._settlement.carry_out(sent.deliveries, decisions, outcome)
            return
        self._settlement.ack(sent.deliveries)

    def _decide(self, sent: Sent, outcome: Outcome) -> None:
        decisions = self._settlement.decided(outcome, sent.deliveries)
        first = decisions[0]
        if isinstance(first, Gone):
            for delivery in sent.deliveries:
                self._ledger.log(delivery, outcome, first.reason)
            self._memory.give_back(sent.deliveries)
        elif isinstance(first, Ack):
            self._ack(sent, outcome)
        elif isinstance(first, (Retry, GiveUp)) and sent.batch and first.error == NO_RECEIPT:
            # What is singled out needs no receipt: only the rest claims to be processed.
            positions = positions_of(outcome, len(sent.deliveries))
            self._settlement.last_error = NO_RECEIPT
            decisions = self._settlement.singled_out(positions, sent.deliveries, decisions)
            self._settlement.carry_out(sent.deliveries, decisions, outcome)
        else:
            if succeeded(outcome):
                self._settlement.last_error = getattr(first, "error", self._settlement.last_error)
            self._settlement.carry_out(sent.deliveries, decisions, outcome, sent.extended_s)

    def _apply(self, sent: Sent, verdict: LateVerdict, outcome: Outcome) -> None:
        decisions = self._settlement.concluded(verdict, sent.deliveries)
        self._settlement.carry_out(sent.deliveries, decisions, outcome)
