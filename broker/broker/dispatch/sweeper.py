"""Applies retention: what is past it leaves the log, too old a backlog is given up."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from broker.retention import surplus
from broker.store.port import Store
from broker.subscription import Subscription
from broker.topic import Topic

log = logging.getLogger(__name__)

SWEEP_S = 1.0
PAUSE_S = 0.01  # between two batches: time for what publishes and delivers
PAGE = 500


class GivingUp(Protocol):
    """What owns the deliveries of the subscriptions."""

    async def give_up_before(self, topic: str, subscription: str, seq: int, since: float) -> int:
        """Give up some of the deliveries with a smaller seq, or replayed before `since`.

        Returns how many.
        """


class Sweeper:
    """A task that looks at every topic and subscription, again and again."""

    def __init__(
        self,
        store: Store,
        topics: Mapping[str, Topic],
        subscriptions: Mapping[tuple[str, str], Subscription],
        owner: GivingUp,
        failed: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._topics = topics
        self._subscriptions = subscriptions
        self._owner = owner
        self._failed = failed
        self._now = now
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="sweeper")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End. Call it before the store closes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Without it the disk would fill up unseen: end the worker, which recovers."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("The sweeper failed.", exc_info=error, extra={"action": "task_failed"})
            self._failed("the sweeper failed")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Look at everything once, and remove all that is past its time."""
        for name in list(self._topics):
            await self._trim(name)
        for topic, name in list(self._subscriptions):
            await self._give_up(topic, name)
            await self._drop_dead(topic, name)

    async def _trim(self, name: str) -> None:
        while (topic := self._topics.get(name)) is not None:
            stats = self._store.topic_stats(name)
            oldest = await self._store.oldest(name, PAGE)
            before = surplus(oldest, stats, topic.retention, self._now())
            if before is None or await self._store.trim(name, before) == stats.first_sequence:
                return  # nothing is past its time, or all that is left is owed
            await asyncio.sleep(PAUSE_S)

    async def _give_up(self, topic: str, name: str) -> None:
        subscription = self._subscriptions.get((topic, name))
        if subscription is None or subscription.max_backlog_age_s is None:
            return
        since = self._now() - subscription.max_backlog_age_s
        owed = await self._store.first_owed(topic, name)
        if owed is None or topic not in self._topics:
            return
        before = await self._store.locate(topic, since)
        more = owed < before
        while more:
            more = await self._owner.give_up_before(topic, name, before, since) > 0
            await asyncio.sleep(PAUSE_S)

    async def _drop_dead(self, topic: str, name: str) -> None:
        while (subscription := self._subscriptions.get((topic, name))) is not None:
            until = self._now() - subscription.dead_letter_retention_s
            if not await self._store.drop_dead(topic, name, until):
                return
            await asyncio.sleep(PAUSE_S)
