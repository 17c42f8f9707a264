"""Messages with a time of their own: waiting, joining the log, cancelled."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import msgspec
import pytest

from broker.model import Appended, NewMessage
from broker.store.port import IdTaken, Store
from contract.homes import Clock, Home
from contract.messages import TOPIC, fetch_all, new_message, own, read_all

pytestmark = pytest.mark.anyio
START = Clock().now
WINDOW_S = 60
SHOP = "/shop"


def later(id_: str, after_s: float, **fields: str) -> NewMessage:
    """Make a message that is due some seconds after the start."""
    return msgspec.structs.replace(new_message(id_, **fields), deliver_at=START + after_s)


@dataclass
class Waiting:
    """A store whose clock a test moves."""

    home: Home
    store: Store
    nudges: int = 0

    async def pass_time(self, until_s: float) -> None:
        """Move the clock to some seconds after the start, and wait until all that is due joined.

        A store sleeps until the time that was next when it looked; something new wakes it.
        """
        self.home.clock.now = START + until_s
        self.nudges += 1
        await self.store.append("nudges", [later(f"n{self.nudges}", 10**9)])
        while await self._due():  # noqa: ASYNC110 the port has no bell for this
            await asyncio.sleep(0)

    async def _due(self) -> bool:
        first, _ = await self.store.scheduled(TOPIC, (0.0, 0), 1)
        return bool(first) and first[0].deliver_at <= self.home.clock.now

    async def in_log(self) -> list[str]:
        """Return the ids of the log."""
        return [json.loads(each.attributes)["id"] for each in await read_all(self.store)]

    async def ids(self, limit: int = 1000) -> list[str]:
        """Return the ids of what waits, read in pages."""
        found: list[str] = []
        after: tuple[float, int] | None = (0.0, 0)
        while after is not None:
            page, after = await self.store.scheduled(TOPIC, after, limit)
            assert len(page) <= limit
            found += [json.loads(each.attributes)["id"] for each in page]
        return found

    async def publish(self, *messages: NewMessage) -> list[tuple[int | None, bool]]:
        """Append messages; return what is told of each."""
        told: list[Appended] = list(await self.store.append(TOPIC, messages))
        return [(each.sequence, each.duplicate) for each in told]


@pytest.fixture
async def waiting(home: Home, store: Store) -> Waiting:
    """A store in which nothing waits yet."""
    await store.create_topic("nudges", {})
    return Waiting(home, store)


async def test_message_joins_the_log_when_it_is_due_and_not_before(waiting: Waiting) -> None:
    assert await waiting.publish(later("a", 10)) == [(None, False)]

    await waiting.pass_time(9.9)
    assert await waiting.in_log() == []
    await waiting.pass_time(10)

    (kept,) = await read_all(waiting.store)
    assert (kept.data, kept.stored_at) == (b"{}", START + 10)
    assert await waiting.ids() == []


async def test_message_whose_time_has_come_is_in_the_log_at_once(waiting: Waiting) -> None:
    told = await waiting.publish(later("a", 0), later("b", -5), new_message("c"))

    assert [duplicate for _, duplicate in told] == [False] * 3
    assert None not in [seq for seq, _ in told]
    assert await waiting.in_log() == ["a", "b", "c"]


async def test_messages_join_in_the_order_of_their_times_and_ties_as_stored(
    waiting: Waiting,
) -> None:
    await waiting.publish(later("d", 3), later("b", 2), later("c", 2))
    await waiting.publish(later("a", 1), later("e", 3))
    assert await waiting.ids() == ["a", "b", "c", "d", "e"]

    await waiting.pass_time(5)

    assert await waiting.in_log() == ["a", "b", "c", "d", "e"]


async def test_message_that_joins_rings_and_is_fetched(waiting: Waiting) -> None:
    shard = await own(waiting.store)
    await waiting.publish(later("a", 1))
    assert await fetch_all(shard) == []
    shard.bell.clear()

    await waiting.pass_time(1)
    await shard.bell.wait()

    assert len(await fetch_all(shard)) == 1


async def test_what_waits_is_counted_apart(waiting: Waiting) -> None:
    def counts() -> tuple[int, int, int, int]:
        stats = waiting.store.topic_stats(TOPIC)
        return stats.message_count, stats.bytes, stats.scheduled_count, stats.scheduled_bytes

    size = len(new_message("a").attributes) + 2
    await waiting.publish(later("a", 1), later("b", 2), new_message("c"))
    assert counts() == (1, size, 2, 2 * size)
    await waiting.store.cancel_scheduled(TOPIC, SHOP, "b")
    assert counts() == (1, size, 1, size)
    waiting.store = await waiting.home.reopen()
    assert counts() == (1, size, 1, size)
    await waiting.pass_time(5)
    assert counts() == (2, 2 * size, 0, 0)


async def test_pages_follow_one_another(waiting: Waiting) -> None:
    ids = [f"{number:02}" for number in range(25)]
    await waiting.publish(*[later(id_, 50 - int(id_) // 3) for id_ in ids])
    expected = sorted(ids, key=lambda id_: (-(int(id_) // 3), id_))

    assert [await waiting.ids(limit) for limit in (1, 7, 25)] == [expected] * 3


async def test_waiting_message_is_found_by_source_and_id(waiting: Waiting) -> None:
    await waiting.publish(later("a", 1), later("a", 2, source="/other"))

    found = await waiting.store.find_scheduled(TOPIC, "/other", "a")

    assert found is not None
    assert (found.deliver_at, found.data) == (START + 2, b"{}")
    assert await waiting.store.find_scheduled(TOPIC, SHOP, "b") is None
    await waiting.pass_time(2)
    assert await waiting.store.find_scheduled(TOPIC, SHOP, "a") is None


async def test_cancelled_message_never_joins_and_its_id_is_free(waiting: Waiting) -> None:
    await waiting.publish(later("a", 10), later("b", 10))
    assert await waiting.store.cancel_scheduled(TOPIC, SHOP, "a")
    assert not await waiting.store.cancel_scheduled(TOPIC, SHOP, "a")
    assert not await waiting.store.cancel_scheduled(TOPIC, "/other", "b")

    waiting.store = await waiting.home.crash()
    assert await waiting.ids() == ["b"]
    ((seq, duplicate),) = await waiting.publish(new_message("a"))
    assert (seq is not None, duplicate) == (True, False)
    await waiting.pass_time(10)
    assert await waiting.in_log() == ["a", "b"]


async def test_id_is_free_while_its_cancellation_is_being_stored(waiting: Waiting) -> None:
    await waiting.publish(later("a", 10))
    cancelling = asyncio.create_task(waiting.store.cancel_scheduled(TOPIC, SHOP, "a"))
    await asyncio.sleep(0)
    told = await waiting.publish(later("a", 20))

    assert await cancelling
    assert told == [(None, False)]
    found = await waiting.store.find_scheduled(TOPIC, SHOP, "a")
    assert found is not None
    assert found.deliver_at == START + 20


async def test_message_is_cancelled_or_joins_and_never_both(waiting: Waiting) -> None:
    ids = [f"{number:03}" for number in range(300)]
    await waiting.publish(*[later(id_, 1) for id_ in ids])
    waiting.home.clock.now = START + 1
    answers = await asyncio.gather(
        waiting.pass_time(1), *(waiting.store.cancel_scheduled(TOPIC, SHOP, id_) for id_ in ids)
    )
    cancelled = {id_ for id_, answer in zip(ids, answers[1:], strict=True) if answer}

    assert cancelled
    assert await waiting.in_log() == [id_ for id_ in ids if id_ not in cancelled]


async def test_two_cancellations_at_once_cancel_once(waiting: Waiting) -> None:
    await waiting.publish(later("a", 1))
    both = [waiting.store.cancel_scheduled(TOPIC, SHOP, "a") for _ in range(2)]
    assert sorted(await asyncio.gather(*both)) == [False, True]


async def test_dropped_topic_takes_what_waits_along(waiting: Waiting) -> None:
    await waiting.publish(later("a", 1))
    await waiting.store.drop_topic(TOPIC)
    await waiting.store.create_topic(TOPIC, {})

    assert await waiting.ids() == []
    assert await waiting.publish(later("a", 2)) == [(None, False)]
    await waiting.pass_time(5)
    assert await waiting.in_log() == ["a"]


async def test_id_counts_as_seen_until_the_window_after_joining(waiting: Waiting) -> None:
    message = later("a", 1000)
    await waiting.publish(message)
    waiting.home.clock.now = START + 999
    assert await waiting.publish(message) == [(None, True)]
    with pytest.raises(IdTaken):
        await waiting.publish(new_message("b"), new_message("a", data=b"other"))

    await waiting.pass_time(1000)
    (kept,) = await read_all(waiting.store)
    waiting.home.clock.now = START + 1000 + WINDOW_S - 1
    assert await waiting.publish(message) == [(kept.seq, True)]
    waiting.home.clock.now = START + 1000 + WINDOW_S
    assert (await waiting.publish(message))[0][1] is False


async def test_repeats_in_one_append_wait_with_the_first(waiting: Waiting) -> None:
    told = await waiting.publish(
        new_message("x"), later("a", 1), later("a", 1), new_message("x"), later("b", 1)
    )
    assert [duplicate for _, duplicate in told] == [False, False, True, True, False]
    assert [seq is None for seq, _ in told] == [False, True, True, False, True]
    assert await waiting.ids() == ["a", "b"]


async def test_what_waits_survives_a_crash_and_joins_once(waiting: Waiting) -> None:
    await waiting.publish(later("a", 1), later("b", 2))
    waiting.store = await waiting.home.crash()
    assert await waiting.ids() == ["a", "b"]
    await waiting.pass_time(1)
    waiting.store = await waiting.home.crash()
    await waiting.pass_time(5)
    assert await waiting.in_log() == ["a", "b"]
    assert [duplicate for _, duplicate in await waiting.publish(later("a", 1))] == [True]
