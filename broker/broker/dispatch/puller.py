"""Handing out deliveries to whoever pulls, each leased before it leaves.

A pull is a request that is out from the first: its deliveries have rows, so that a lease outlives a
restart, and their keys wait for the ack as they wait for an endpoint that answered `later`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.ack_urls import Claim
from broker.cloudevents import expires_at
from broker.dispatch.intake import Intake
from broker.dispatch.lanes import Delivery
from broker.dispatch.ledger import Ledger
from broker.dispatch.memory import Memory
from broker.dispatch.settlement import Settlement
from broker.model import Message, size_of
from broker.store.port import Shard
from broker.subscription import Subscription

LAPSES_EVERY_S = 0.05
MAX_PULLED_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pulled:
    """A delivery that was handed out; `claim` is None where nothing more is owed of it."""

    message: Message
    attempt: int
    replayed: bool
    claim: Claim | None


@dataclass(slots=True, eq=False)
class Pull:
    """Somebody who wants up to `limit` deliveries, and waits for them if `patient`.

    There are no more once their messages have `most_bytes`. Whoever goes away cancels `answer`.
    """

    limit: int
    most_bytes: int
    answer: asyncio.Future[list[Pulled]]
    patient: bool


class Spending(Protocol):
    """A limit of deliveries a second."""

    def available(self, now: float) -> float:
        """Return how many may be handed out now."""

    def take(self, count: int) -> None:
        """Spend some."""


class Puller:
    """Serves the pulls of one shard, in the order in which they came."""

    def __init__(
        self,
        shard: Shard,
        intake: Intake,
        ledger: Ledger,
        memory: Memory,
        settlement: Settlement,
        now: Callable[[], float],
    ) -> None:
        self._shard = shard
        self._intake = intake
        self._ledger = ledger
        self._memory = memory
        self._settlement = settlement
        self._now = now
        self._waiting: deque[Pull] = deque()
        self.wanted = 0
        self.held_back = False  # by the rate limit, when it last served

    def add(self, pull: Pull) -> None:
        """Have a pull served once there is something for it."""
        self._waiting.append(pull)

    def waits(self) -> bool:
        """Say whether somebody waits."""
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        return bool(self._waiting)

    def dismiss(self) -> None:
        """Answer everybody who waits that there is nothing."""
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_result([])

    def dismiss_impatient(self) -> None:
        """Answer those who do not wait that there is nothing now."""
        patient: deque[Pull] = deque()
        for pull in self._waiting:
            if pull.patient:
                patient.append(pull)
            elif not pull.answer.done():
                pull.answer.set_result([])
        self._waiting = patient

    def lapses_at(self) -> float | None:
        """Return when to look for leases that have lapsed."""
        return self._settlement.next_lapse_at

    async def look_for_leases(self) -> None:
        """Learn when the first lease lapses, and rest a while before the next look at all."""
        self._settlement.look_for_lapses()
        first = min((lease.until for lease in await self._shard.leases()), default=None)
        if first is not None:
            self._settlement.will_lapse(max(first, self._now() + LAPSES_EVERY_S))

    async def end_lapsed(self) -> None:
        """Have leases that have lapsed count as failed attempts, whether or not anybody pulls."""
        lapses_at = self.lapses_at()
        if lapses_at is not None and lapses_at <= self._now():
            self._ledger.commit()
            await self._intake.end_lapsed(await self._shard.leases())
            self._ledger.commit()
            await self.look_for_leases()

    async def serve(self, subscription: Subscription, rate: Spending, monotonic: float) -> None:
        """Give what there is to those who wait."""
        while self.waits():
            pull = self._waiting[0]
            most = 1 if subscription.ordering == "topic" else pull.limit
            self.wanted = int(min(most, rate.available(monotonic)))
            self.held_back = self.wanted < 1
            await self._intake.take()
            if pull.answer.done():  # the client went away meanwhile
                continue
            batch = self._take(self.wanted, pull.most_bytes)
            self.wanted = 0
            if not batch:
                if not self._intake.has_more:
                    self.dismiss_impatient()
                return
            self._waiting.popleft()
            rate.take(len(batch))
            await self._hand_out(pull, batch, subscription)

    def _take(self, limit: int, room: int) -> list[Delivery]:
        """Take deliveries that are ready, one of a key; `room` is for their bytes."""
        now = self._now()
        batch: list[Delivery] = []
        while len(batch) < limit and room > 0 and self._memory.sendable():
            delivery = self._memory.ready.popleft()
            expires = expires_at(delivery.message.attributes)
            if expires is not None and expires <= now:
                self._settlement.expire(delivery)
            else:
                batch.append(delivery)
                room -= size_of(delivery.message)
        batch.sort(key=lambda each: each.message.seq)
        return batch

    async def _hand_out(
        self, pull: Pull, batch: Sequence[Delivery], subscription: Subscription
    ) -> None:
        at_most_once = subscription.guarantee == "at-most-once"
        until = self._now() + subscription.ack_deadline_s
        pulled = [self._pulled(each, leased=not at_most_once) for each in batch]
        if at_most_once:
            self._settle(batch)
        else:
            self._settlement.lease(batch, until)
        try:
            committed = self._ledger.commit(soon=True)
            if committed is not None:
                await committed
        except Exception as error:
            if not pull.answer.done():
                pull.answer.set_exception(error)
            raise
        if not pull.answer.done():
            pull.answer.set_result(pulled)
        elif not at_most_once:
            self._take_back(batch)

    def _pulled(self, delivery: Delivery, *, leased: bool) -> Pulled:
        seq, attempt = delivery.message.seq, delivery.attempts + 1
        claim = Claim(self._shard.id, self._shard.generation, [seq], [attempt]) if leased else None
        return Pulled(delivery.message, attempt, delivery.replayed_at is not None, claim)

    def _settle(self, batch: Sequence[Delivery]) -> None:
        """Have the position pass what is handed out; what it would leave behind gets rows."""
        self._settlement.ack(batch)
        self._settlement.let_position_pass(())

    def _take_back(self, batch: Sequence[Delivery]) -> None:
        """Nobody took them: they are due at once, and have spent no attempt."""
        now = self._now()
        for delivery in batch:
            self._ledger.put(delivery, "retry", now)
            self._memory.due(now)
        self._shard.bell.set()
