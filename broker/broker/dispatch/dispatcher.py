"""Keeps a pump at work for every shard that this process owns."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial

from broker.consent import ORIGIN, Agreement
from broker.dispatch.couriers import Couriers
from broker.dispatch.memory import share_of
from broker.dispatch.pump import SLOW_S, Pump
from broker.dispatch.reminders import Reminders
from broker.dispatch.tally import Tally
from broker.store.port import LeaseLost, Shard, Store
from broker.subscription import Subscription

log = logging.getLogger(__name__)

DRAIN_POLL_S = 0.01


class Dispatcher:
    """Owns the pumps and the couriers."""

    def __init__(
        self,
        store: Store,
        couriers: Couriers,
        subscriptions: Mapping[tuple[str, str], Subscription],
        failed: Callable[[str], None],
        pause: Callable[[Subscription, str], Coroutine[None, None, None]],
        remember: Callable[[Subscription, Agreement], Coroutine[None, None, None]],
        public_url: str | None = None,
        origin: str = ORIGIN,
    ) -> None:
        self._store = store
        self._couriers = couriers
        self._subscriptions = subscriptions
        self._failed = failed
        self._pause = pause
        self._remember = remember
        self._public_url = public_url
        self._origin = origin
        self._reminders = Reminders(SLOW_S, time.monotonic)
        self._pumps: dict[tuple[str, str], Pump] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def start(self) -> None:
        """Start the couriers, then a pump for each shard as it is claimed."""
        await self._couriers.start()
        self._watch(self._claim(), "claim of shards")

    async def drain(self, drain_s: float) -> None:
        """Send nothing more, and wait for what is out; acks and other acts are taken as before."""
        self._draining = True  # also what only begins
        for pump in self._pumps.values():
            pump.drain()
        deadline = time.monotonic() + drain_s
        while not self._idle() and time.monotonic() < deadline:  # noqa: ASYNC110 rare and short
            await asyncio.sleep(DRAIN_POLL_S)

    async def stop(self) -> None:
        """End, once drained. Call it before the store closes."""
        # A turn for each pump, so that what has just been settled reaches the store.
        await asyncio.sleep(DRAIN_POLL_S)
        for task in self._tasks:
            task.cancel()
        pumps = list(self._pumps.values())
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pump in pumps:
            pump.let_go()
        await self._couriers.stop()

    def pump(self, topic: str, subscription: str) -> Pump | None:
        """Return the pump at work for a subscription, if it is owned here."""
        return self._pumps.get((topic, subscription))

    def tallies(self) -> list[Tally]:
        """Return what each pump at work has counted."""
        return [pump.tally for pump in self._pumps.values()]

    async def give_up_before(self, topic: str, subscription: str, seq: int, since: float) -> int:
        """See Interventions.give_up_before; 0 where the subscription is not owned here."""
        pump = self.pump(topic, subscription)
        if pump is None:
            return 0
        try:
            return await pump.perform(partial(pump.interventions.give_up_before, seq, since))
        except LeaseLost:
            return 0

    def configure(self, subscription: Subscription) -> None:
        """Tell a subscription's pump of its new configuration."""
        pump = self._pumps.get((subscription.topic, subscription.name))
        if pump is not None:
            pump.configure(subscription)

    def alive(self) -> bool:
        """Say whether deliveries are being made."""
        return self._couriers.alive()

    def _idle(self) -> bool:
        return all(pump.idle() for pump in self._pumps.values())

    async def _claim(self) -> None:
        async for shard in self._store.claim():
            self._watch(self._pump(shard), f"pump {shard.topic}/{shard.subscription}")
            await asyncio.sleep(0)  # its first turn, and whatever else waits for one

    async def _pump(self, shard: Shard) -> None:
        name = (shard.topic, shard.subscription)
        subscription = self._subscriptions.get(name)
        if subscription is None:
            return  # dropped before its first turn
        pump = self._pumps[name] = Pump(
            shard,
            subscription,
            self._couriers,
            f"msg_{self._store.log_id}_{shard.topic_id}_",
            random=random.random,
            now=time.time,
            monotonic=time.monotonic,
            pause=self._pause_soon,
            remember=self._remember_soon,
            origin=self._origin,
            public_url=self._public_url,
            most_bytes=lambda: share_of(len(self._pumps)),
            reminders=self._reminders,
        )
        if self._draining:
            pump.drain()
        try:
            await pump.run()
        finally:
            if self._pumps.get(name) is pump:
                del self._pumps[name]

    def _pause_soon(self, subscription: Subscription, reason: str) -> None:
        self._watch(self._pause(subscription, reason), f"pause of {subscription.name}")

    def _remember_soon(self, subscription: Subscription, agreement: Agreement) -> None:
        self._watch(self._remember(subscription, agreement), f"consent to {subscription.name}")

    def _watch(self, coroutine: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that fails would leave a subscription silent: end the worker, which recovers."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical(
                "The task %s failed.",
                task.get_name(),
                exc_info=error,
                extra={"action": "task_failed"},
            )
            self._failed(f"the task {task.get_name()} failed")
