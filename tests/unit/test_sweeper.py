"""What the sweeper looks at, when, and how much it takes at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.dispatch.sweeper import GLANCES, PAGE, STRETCH, Sweeper
from broker.model import ExceptionRow, NewMessage
from broker.store.port import Changes, TopicStats
from broker.store.sqlite import SqliteStore, retention
from broker.subscription import Subscription
from broker.topic import Retention, Topic
from unit.sqlite_stores import Clock

pytestmark = pytest.mark.anyio
DAY_S = 86400.0


class Watched:
    """A store that counts the calls of each method."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        return getattr(self.store, name)


class Owner:
    """Gives up what it is told to, some at a time, and remembers being asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int, float]] = []
        self.counts: list[int] = []

    async def give_up_before(self, topic: str, subscription: str, seq: int, since: float) -> int:
        self.asked.append((topic, subscription, seq, since))
        return self.counts.pop(0) if self.counts else 0


class World:
    """A sweeper, and what it sweeps."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self.clock = clock
        self.store = Watched(store)
        self.owner = Owner()
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[tuple[str, str], Subscription] = {}
        self.failures: list[str] = []
        self.sweeper = Sweeper(
            self.store,  # type: ignore[arg-type]
            self.topics,
            self.subscriptions,
            self.owner,
            self.failures.append,
            clock,
        )

    async def create(self, topic: str, retention: Retention, messages: int = 0) -> None:
        await self.store.create_topic(topic, {})
        self.topics[topic] = Topic(topic, retention)
        await self.publish(topic, messages)

    async def publish(self, topic: str, messages: int) -> None:
        message = NewMessage("m", "/s", None, b"{}", b"data", None)
        await self.store.append(topic, [message] * messages)

    async def subscribe(self, topic: str, **fields: Any) -> None:
        await self.store.create_subscription(topic, "s", {}, 1)
        self.subscriptions[(topic, "s")] = Subscription(topic, "s", "whsec_", **fields)

    def count_of(self, topic: str) -> int:
        return int(self.store.topic_stats(topic).message_count)

    def looks(self, name: str) -> int:
        """Say how often a method was called since the last time."""
        return self.store.calls.pop(name, 0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    store = SqliteStore(str(tmp_path / "broker.db"), now=clock)
    await store.open()
    yield World(store, clock)
    await store.close()


async def test_no_topic_waits_for_another_that_has_much_to_lose(world: World) -> None:
    for name, messages in (("a", 3000), ("b", 20), ("c", 3000)):
        await world.create(name, Retention(max_messages=1), messages)

    more = await world.sweeper.sweep()

    assert {name: world.count_of(name) for name in "abc"} == {"a": 2000, "b": 1, "c": 2000}
    while more:
        more = [chore for chore in more if await chore()]
    assert {name: world.count_of(name) for name in "abc"} == {"a": 1, "b": 1, "c": 1}


async def test_log_is_looked_at_once_where_one_batch_is_all_there_is_to_remove(
    world: World,
) -> None:
    await world.create("t", Retention(max_messages=3), 20)

    assert await world.sweeper.sweep() == []

    assert world.count_of("t") == 3
    assert (world.looks("oldest"), world.looks("trim")) == (1, 1)


async def test_full_page_that_is_removed_is_looked_behind(world: World) -> None:
    await world.create("t", Retention(max_messages=1), PAGE + 1)

    (more,) = await world.sweeper.sweep()

    assert world.count_of("t") == 1
    assert not await more()


async def test_batch_that_is_smaller_than_asked_for_is_not_all_there_is_to_remove(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 10)
    await world.create("t", Retention(max_messages=3), 30)
    more = await world.sweeper.sweep()
    assert world.count_of("t") == 20

    while more:
        more = [chore for chore in more if await chore()]

    assert world.count_of("t") == 3


async def test_what_becomes_too_old_during_a_sweep_waits_for_the_next(world: World) -> None:
    await world.create("t", Retention(max_age_s=5), PAGE + 500)
    world.clock.now += 3
    await world.publish("t", 10)
    world.clock.now += 3
    more = await world.sweeper.sweep()
    world.clock.now += 3
    while more:
        more = [chore for chore in more if await chore()]
    assert world.count_of("t") == 10

    await world.sweeper.sweep()
    assert world.count_of("t") == 0


async def test_backlog_and_dead_letters_are_as_old_as_when_the_sweep_began(world: World) -> None:
    await world.create("t", Retention(), 3)
    await world.subscribe("t", max_backlog_age_s=10.0, dead_letter_retention_s=10.0)
    shard = await anext(world.store.claim())
    await shard.fetch(2)
    dead = [ExceptionRow(seq, None, "dead", since=world.clock.now + seq) for seq in (1, 2)]
    await shard.commit(Changes(put=dead), soon=True)
    world.clock.now += 11.5
    world.owner.counts = [1, 1]

    more = await world.sweeper.sweep()
    world.clock.now += 60
    for chore in more:
        await chore()

    began = world.clock.now - 60
    assert [since for *_, since in world.owner.asked] == [began - 10.0] * 2
    left = await world.store.rows("t", "s", ("dead",), 0, 10)
    assert [due.row.seq for due in left] == [2]


async def test_young_log_is_left_alone_until_its_first_message_is_too_old(world: World) -> None:
    await world.create("t", Retention(max_age_s=DAY_S), 5)
    await world.sweeper.sweep()
    assert world.looks("oldest") == 1

    world.clock.now += DAY_S - 1
    await world.publish("t", 3)
    await world.sweeper.sweep()
    assert world.looks("oldest") == 0

    world.clock.now += 2
    await world.sweeper.sweep()
    assert world.count_of("t") == 3


async def test_empty_log_is_not_looked_at(world: World) -> None:
    await world.create("t", Retention(max_age_s=5))
    await world.sweeper.sweep()
    assert world.looks("oldest") == 0


async def turns_of_others(world: World) -> int:
    """Count the turns that others have during a sweep."""
    turns: list[int] = []

    async def count_turns() -> None:
        while True:
            turns.append(len(turns))
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    await world.sweeper.sweep()
    other.cancel()
    return len(turns)


async def test_look_at_many_topics_lets_others_work_meanwhile(world: World) -> None:
    for number in range(2 * STRETCH):
        await world.create(f"t{number}", Retention(), 1)
    assert await turns_of_others(world) >= 2


async def test_others_work_while_many_subscriptions_are_looked_at(world: World) -> None:
    for number in range(2 * STRETCH):
        name = ("t", f"s{number}")
        world.subscriptions[name] = Subscription(*name, "whsec_")
    assert await turns_of_others(world) >= 2


async def test_others_work_while_many_topics_rest(world: World) -> None:
    world.topics.update(
        {f"t{number}": Topic(f"t{number}") for number in range(2 * STRETCH * GLANCES)}
    )
    world.store.topic_stats = lambda _: TopicStats(0, 0, 1, 0, 0, 0)  # type: ignore[attr-defined]
    assert await turns_of_others(world) >= 2


async def test_subscription_that_rests_is_looked_at_when_its_rest_is_over(world: World) -> None:
    for number in range(3):
        name = ("t", f"s{number}")
        world.subscriptions[name] = Subscription(
            *name, "whsec_", max_backlog_age_s=None, dead_letter_retention_s=(number + 1) * 200.0
        )
    await world.sweeper.sweep()
    assert world.looks("drop_dead") == 3

    looks = []
    for _ in range(30):
        world.clock.now += 1
        await world.sweeper.sweep()
        looks.append(world.looks("drop_dead"))

    # Each every twentieth of its age: ten, twenty, thirty seconds.
    assert [second for second, count in enumerate(looks, 1) if count] == [10, 20, 30]
    assert (looks[9], looks[19], looks[29]) == (1, 2, 2)


async def test_backlog_is_looked_at_when_only_its_rest_is_over(world: World) -> None:
    await world.create("t", Retention(), 3)
    await world.subscribe("t", max_backlog_age_s=20, dead_letter_retention_s=30 * DAY_S)
    await world.sweeper.sweep()
    assert (world.looks("first_owed"), world.looks("drop_dead")) == (1, 1)

    for _ in range(59):
        world.clock.now += 1
        await world.sweeper.sweep()
    assert (world.looks("first_owed"), world.looks("drop_dead")) == (59, 0)

    world.clock.now += 1
    await world.sweeper.sweep()
    assert (world.looks("first_owed"), world.looks("drop_dead")) == (1, 1)


async def test_subscription_that_changes_while_it_is_looked_at_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create("t", Retention(), 3)
    await world.subscribe("t", max_backlog_age_s=5)
    world.clock.now += 10

    async def change(topic: str, subscription: str, seq: int, since: float) -> int:
        before = world.subscriptions[(topic, subscription)]
        world.subscriptions[(topic, subscription)] = replace(before, max_backlog_age_s=7)
        return 0

    monkeypatch.setattr(world.owner, "give_up_before", change)
    await world.sweeper.sweep()
    monkeypatch.undo()
    await world.sweeper.sweep()

    assert world.owner.asked == [("t", "s", 4, world.clock.now - 7)]


async def test_subscription_that_is_made_anew_is_looked_at_anew(world: World) -> None:
    name = ("t", "s")
    world.subscriptions[name] = Subscription(*name, "whsec_", created_at=1.0)
    await world.sweeper.sweep()
    await world.sweeper.sweep()
    assert world.looks("drop_dead") == 1

    del world.subscriptions[name]
    world.subscriptions[name] = Subscription(*name, "whsec_", created_at=2.0)
    await world.sweeper.sweep()
    assert world.looks("drop_dead") == 1


async def test_what_is_not_there_any_more_is_forgotten(world: World) -> None:
    await world.create("t", Retention(), 1)
    await world.subscribe("t")
    await world.sweeper.sweep()
    del world.topics["t"], world.subscriptions[("t", "s")]

    await world.sweeper.sweep()

    assert (world.sweeper._log_rests, world.sweeper._rests) == ({}, {})
    world.clock.now += 61
    await world.sweeper.sweep()
    assert (world.sweeper._known, world.sweeper._due) == ([], [])


async def test_new_age_of_a_backlog_holds_at_once(world: World) -> None:
    await world.create("t", Retention(), 3)
    await world.subscribe("t", max_backlog_age_s=None)
    world.clock.now += 10
    await world.sweeper.sweep()
    assert world.owner.asked == []

    changed = replace(world.subscriptions[("t", "s")], max_backlog_age_s=5)
    world.subscriptions[("t", "s")] = changed
    await world.sweeper.sweep()

    assert world.owner.asked == [("t", "s", 4, world.clock.now - 5)]


@pytest.mark.parametrize("retention", [Retention(max_age_s=5), Retention(max_messages=2)])
async def test_new_retention_holds_at_once(world: World, retention: Retention) -> None:
    await world.create("t", Retention(max_age_s=DAY_S), 5)
    world.clock.now += 6
    await world.sweeper.sweep()
    assert world.count_of("t") == 5

    world.topics["t"] = replace(world.topics["t"], retention=retention)
    await world.sweeper.sweep()

    assert world.count_of("t") == (0 if retention.max_age_s == 5 else 2)


async def test_log_that_is_too_large_at_once_is_not_left_alone(world: World) -> None:
    await world.create("t", Retention(max_age_s=DAY_S, max_messages=5), 5)
    await world.sweeper.sweep()

    await world.publish("t", 3)
    await world.sweeper.sweep()

    assert world.count_of("t") == 5


async def test_log_that_is_owed_is_looked_at_now_and_then(world: World) -> None:
    await world.create("t", Retention(max_messages=1), 10)
    await world.subscribe("t")
    await world.sweeper.sweep()
    assert (world.count_of("t"), world.looks("oldest")) == (10, 1)

    world.clock.now += 1
    await world.sweeper.sweep()
    assert world.looks("oldest") == 0

    await world.store.drop_subscription("t", "s")
    world.clock.now += 10
    await world.sweeper.sweep()
    assert world.count_of("t") == 1


async def test_backlog_is_given_up_as_far_as_it_is_too_old(world: World) -> None:
    await world.create("t", Retention(), 10)
    await world.subscribe("t", max_backlog_age_s=DAY_S)
    await world.sweeper.sweep()
    assert world.owner.asked == []

    world.clock.now += DAY_S + 1
    await world.publish("t", 5)
    world.owner.counts = [7]
    more = await world.sweeper.sweep()
    assert len(more) == 1, "there may be more"
    assert not await more[0]()

    assert world.owner.asked == [("t", "s", 11, world.clock.now - DAY_S)] * 2
    await world.sweeper.sweep()
    assert len(world.owner.asked) == 2, "nothing more could be given up just now"
    world.clock.now += 61
    await world.sweeper.sweep()
    assert len(world.owner.asked) == 3


async def test_backlog_without_an_age_is_not_looked_at(world: World) -> None:
    await world.create("t", Retention(), 10)
    await world.subscribe("t", max_backlog_age_s=None)
    world.clock.now += 1000 * DAY_S

    await world.sweeper.sweep()

    assert world.owner.asked == []
    assert world.looks("first_owed") == 0


async def test_dead_letters_go_when_they_have_been_dead_for_long(world: World) -> None:
    await world.create("t", Retention(max_age_s=None), 4)
    await world.subscribe("t", dead_letter_retention_s=DAY_S, max_backlog_age_s=None)
    shard = await anext(world.store.claim())
    await shard.fetch(10)
    born = world.clock.now
    rows = [ExceptionRow(seq, None, "dead", since=born + seq * 1000) for seq in (1, 2, 3)]
    await shard.commit(Changes(put=rows, done=[4]), soon=True)

    world.clock.now = born + 2000 + DAY_S
    await world.sweeper.sweep()

    left = await world.store.rows("t", "s", ("dead",), 0, 10)
    assert [due.row.seq for due in left] == [3]


async def test_what_is_gone_meanwhile_is_nothing_to_sweep(world: World) -> None:
    await world.create("t", Retention(max_messages=1), 3000)
    await world.subscribe("t")
    await world.store.drop_subscription("t", "s")
    more = await world.sweeper.sweep()
    assert more

    del world.topics["t"], world.subscriptions[("t", "s")]
    await world.store.drop_topic("t")

    assert [chore for chore in more if await chore()] == []
    assert await world.sweeper.sweep() == []
    assert world.failures == []
