"""Applies retention: what is past it leaves the log, too old a backlog is given up."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from operator import is_
from typing import Protocol, TypeAlias

from broker.dispatch import incidents
from broker.retention import exceeds, look_again_s, surplus
from broker.store.port import Store, Unavailable
from broker.subscription import Subscription
from broker.topic import Retention, Topic

log = logging.getLogger(__name__)

SWEEP_S = 1.0
PAUSE_S = 0.005  # between two batches: time for what publishes and delivers
PAGE = 1000
STRETCH = 50  # looks without a pause for what publishes and delivers
GLANCES = 20  # at what rests take as long as one look
OWED_S = 5.0  # until a log is looked at again of which nothing can go before it is delivered

Chore: TypeAlias = Callable[[], Awaitable[bool]]


@dataclass(slots=True)
class LogRest:
    """Until when a log need not be looked at, if that is its retention.

    `young_until` holds while it has no more than it may have.
    """

    retention: Retention
    young_until: float = 0.0
    owed_until: float = 0.0


@dataclass(slots=True)
class Rest:
    """Until when backlog and dead letters of a subscription that is this one need no look."""

    subscription: Subscription
    backlog_until: float = 0.0
    dead_until: float = 0.0


class GivingUp(Protocol):
    """What owns the deliveries of the subscriptions."""

    async def give_up_before(self, topic: str, subscription: str, seq: int, since: float) -> int:
        """Give up some of the deliveries with a smaller seq, or replayed before `since`.

        Returns how many.
        """


class Sweeper:
    """A task that looks at every topic and subscription, again and again.

    A sweep removes what is too old when it begins, and looks at numbers and sizes once for each
    batch. What comes to be too much meanwhile waits for the next sweep. Otherwise, where messages
    come all the time, there would be a batch of two or three every few milliseconds, each with a
    search and a commit of its own.
    """

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
        self._as_of = 0.0  # when this sweep began
        self._task: asyncio.Task[None] | None = None
        self._log_rests: dict[str, LogRest] = {}
        self._rests: dict[tuple[str, str], Rest] = {}
        self._known: list[Subscription] = []  # those that have a rest, in the order of the mapping
        self._numbers = count()  # of two that are over at once, one has to be less
        self._due: list[tuple[float, int, Rest]] = []  # a heap; some are over later than said

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
        """Look at all that does not rest, and remove a batch of each; return what may have more."""
        self._as_of = self._now()
        self._follow_topics()
        self._follow_subscriptions()
        more: list[Chore] = []
        glances = 0
        for chore in self._chores():
            if chore is not None and await chore():
                more.append(chore)
            glances += 1 if chore is None else GLANCES
            if glances >= STRETCH * GLANCES:
                glances = 0
                await asyncio.sleep(0)
        return more

    def _follow_topics(self) -> None:
        if len(self._log_rests) > len(self._topics):
            self._log_rests = {
                name: rest for name, rest in self._log_rests.items() if name in self._topics
            }

    def _follow_subscriptions(self) -> None:
        """Have each that is new or changed looked at now, and forget those that are gone.

        Between two changes each is only compared with itself, so that there can be many.
        """
        there = list(self._subscriptions.values())
        if len(there) == len(self._known) and all(map(is_, there, self._known)):
            return
        self._known = there
        for name, subscription in self._subscriptions.items():
            rest = self._rests.get(name)
            if rest is None or rest.subscription is not subscription:
                self._rests[name] = Rest(subscription)
                self._look_when_over(self._rests[name])
        if len(self._rests) > len(self._subscriptions):
            self._rests = {
                name: rest for name, rest in self._rests.items() if name in self._subscriptions
            }

    def _look_when_over(self, rest: Rest) -> None:
        over_at = min(rest.backlog_until, rest.dead_until)
        heappush(self._due, (over_at, next(self._numbers), rest))

    def _chores(self) -> Iterator[Chore | None]:
        """Yield what there is to look at, and None for each glance at what may rest."""
        for topic in list(self._topics):
            yield partial(self._trim, topic) if self._may_lose(topic) else None
        now = self._now()
        over = []
        while self._due and self._due[0][0] <= now:
            over.append(heappop(self._due)[2])
            yield None
        for rest in over:
            name = (rest.subscription.topic, rest.subscription.name)
            if self._rests.get(name) is not rest:
                continue  # gone, or changed: then it has another
            if rest.backlog_until <= now:
                yield partial(self._give_up, name, rest)
            if rest.dead_until <= now:
                yield partial(self._drop_dead, name, rest)
            self._look_when_over(rest)

    def _may_lose(self, name: str) -> bool:
        """Say whether a log has something, and does not rest; it must with another retention."""
        topic = self._topics.get(name)
        if topic is None:
            return False
        stats, retention = self._store.topic_stats(name), topic.retention
        if not stats.message_count:
            return False
        rest = self._log_rests.get(name)
        if rest is None or rest.retention != retention:
            rest = self._log_rests[name] = LogRest(retention)
        return self._now() >= (rest.owed_until if exceeds(stats, retention) else rest.young_until)

    async def _trim(self, name: str) -> bool:
        if not self._may_lose(name):
            return False
        rest = self._log_rests[name]
        stats, retention = self._store.topic_stats(name), rest.retention
        oldest = await self._store.oldest(name, PAGE)
        before = surplus(oldest, stats, retention, self._as_of)
        if before is None:
            if oldest and retention.max_age_s is not None:
                rest.young_until = oldest[0].stored_at + retention.max_age_s
            return False
        first = await self._store.trim(name, before)
        if first > stats.first_sequence:
            return first < before or before > oldest[-1].seq
        rest.young_until = rest.owed_until = self._now() + OWED_S
        return False

    async def _give_up(self, name: tuple[str, str], rest: Rest) -> bool:
        if self._subscriptions.get(name) is not rest.subscription:
            return False
        age_s = rest.subscription.max_backlog_age_s
        if age_s is None:
            rest.backlog_until = inf
            return False
        topic, since = name[0], self._as_of - age_s
        owed = await self._store.first_owed(*name)
        if owed is not None and topic in self._topics:
            before = await self._store.locate(topic, since)
            if owed < before and (count := await self._owner.give_up_before(*name, before, since)):
                incidents.too_old(*name, count)
                return True
        rest.backlog_until = self._now() + look_again_s(age_s)
        return False

    async def _drop_dead(self, name: tuple[str, str], rest: Rest) -> bool:
        if self._subscriptions.get(name) is not rest.subscription:
            return False
        age_s = rest.subscription.dead_letter_retention_s
        if await self._store.drop_dead(*name, self._as_of - age_s):
            return True
        rest.dead_until = self._now() + look_again_s(age_s)
        return False
