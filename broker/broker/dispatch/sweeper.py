"""Applies retention: what is past it leaves the log, too old a backlog is given up."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Protocol, TypeAlias

from broker.dispatch import incidents
from broker.retention import exceeds, look_again_s, surplus
from broker.store.port import Store, Unavailable
from broker.subscription import Subscription
from broker.topic import Topic

log = logging.getLogger(__name__)

SWEEP_S = 1.0
PAUSE_S = 0.005  # between two batches: time for what publishes and delivers
PAGE = 1000
STRETCH = 50  # looks without a pause for what publishes and delivers
OWED_S = 5.0  # until a log is looked at again of which nothing can go before it is delivered

Chore: TypeAlias = Callable[[], Awaitable[bool]]


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
        self._resting: dict[tuple[str, ...], tuple[object, float]] = {}

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
        with contextlib.suppress(Unavailable):  # the worker ends, and the next one goes on
            while True:
                next_at = time.monotonic() + SWEEP_S
                more = await self.sweep()
                while more and time.monotonic() < next_at:
                    await asyncio.sleep(PAUSE_S)
                    more = [chore for chore in more if await chore()]
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def sweep(self) -> list[Chore]:
        """Look at everything once, and remove a batch of each; return where there may be more."""
        now = self._now()
        self._resting = {what: rest for what, rest in self._resting.items() if rest[1] > now}
        more: list[Chore] = []
        for number, chore in enumerate(self._chores(), 1):
            if await chore():
                more.append(chore)
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        return more

    def _chores(self) -> Iterator[Chore]:
        for name in list(self._topics):
            yield partial(self._trim, name)
        for topic, name in list(self._subscriptions):
            yield partial(self._give_up, topic, name)
            yield partial(self._drop_dead, topic, name)

    def _rests(self, *what: str, by: object) -> bool:
        """Say whether something need not be looked at yet; it must with another configuration."""
        rule, until = self._resting.get(what, (None, 0.0))
        return rule == by and self._now() < until

    def _rest(self, *what: str, by: object, until: float) -> bool:
        self._resting[what] = (by, until)
        return False

    async def _trim(self, name: str) -> bool:
        topic = self._topics.get(name)
        if topic is None:
            return False
        stats, retention = self._store.topic_stats(name), topic.retention
        if not stats.message_count:
            return False
        what = "owed" if exceeds(stats, retention) else "young"
        if self._rests(what, name, by=retention):
            return False
        oldest = await self._store.oldest(name, PAGE)
        before = surplus(oldest, stats, retention, self._now())
        if before is None:
            if oldest and retention.max_age_s is not None:
                until = oldest[0].stored_at + retention.max_age_s
                return self._rest("young", name, by=retention, until=until)
            return False
        if await self._store.trim(name, before) > stats.first_sequence:
            return True
        for each in ("owed", "young"):
            self._rest(each, name, by=retention, until=self._now() + OWED_S)
        return False

    async def _give_up(self, topic: str, name: str) -> bool:
        subscription = self._subscriptions.get((topic, name))
        age_s = None if subscription is None else subscription.max_backlog_age_s
        if age_s is None or self._rests("backlog", topic, name, by=age_s):
            return False
        since = self._now() - age_s
        owed = await self._store.first_owed(topic, name)
        if owed is not None and topic in self._topics:
            before = await self._store.locate(topic, since)
            if owed < before and (
                count := await self._owner.give_up_before(topic, name, before, since)
            ):
                incidents.too_old(topic, name, count)
                return True
        until = self._now() + look_again_s(age_s)
        return self._rest("backlog", topic, name, by=age_s, until=until)

    async def _drop_dead(self, topic: str, name: str) -> bool:
        subscription = self._subscriptions.get((topic, name))
        if subscription is None:
            return False
        age_s = subscription.dead_letter_retention_s
        if self._rests("dead", topic, name, by=age_s):
            return False
        if await self._store.drop_dead(topic, name, self._now() - age_s):
            return True
        until = self._now() + look_again_s(age_s)
        return self._rest("dead", topic, name, by=age_s, until=until)
