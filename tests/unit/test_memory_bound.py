"""How many bytes of messages a pump has in memory."""

from __future__ import annotations

import pytest

from broker.dispatch.memory import ALL_BYTES, LEAST_BYTES, MOST_BYTES, share_of
from broker.subscription import RetryPolicy
from unit.pump_world import PumpWorld, with_fields

pytestmark = pytest.mark.anyio
DATA = b"x" * 978  # with its attributes, a message has 1000 bytes
PAGE = 1000
MOST = 10_000


@pytest.fixture
def world(world: PumpWorld, monkeypatch: pytest.MonkeyPatch) -> PumpWorld:
    """Read pages of a message each, and have ten in memory."""
    for place in ("store.sqlite.log", "store.sqlite.shard", "dispatch.intake"):
        monkeypatch.setattr(f"broker.{place}.PAGE_BYTES", PAGE)
    world.most_bytes = MOST
    return world


def keys(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


async def answer_all(world: PumpWorld, status: int) -> None:
    for job in list(world.courier.out):
        world.end(job, status)
    await world.settle()


@with_fields(max_in_flight=100)
async def test_requests_that_are_out_have_no_more_bytes_than_they_may(world: PumpWorld) -> None:
    seqs = await world.publish(*keys(60), data=DATA)
    await world.settle()
    assert len(world.out()) == 10

    assert await world.drain() == seqs[10:]


@with_fields(max_in_flight=100, guarantee="at-most-once")
async def test_neither_have_those_that_are_settled_before_they_are_sent(world: PumpWorld) -> None:
    await world.publish(*keys(60), data=DATA)
    await world.settle()
    assert len(world.out()) == 10
    await world.answer(1)
    assert len(world.out()) == 10

    await world.drain()
    assert len(world.courier.sent) == 60


@with_fields(max_in_flight=100, retry=RetryPolicy(max_attempts=0, min_backoff_s=10))
async def test_retries_have_no_more_bytes_than_they_may(world: PumpWorld) -> None:
    await world.publish(*keys(60), data=DATA)
    await world.settle()
    for _ in range(8):
        await answer_all(world, 404)
    assert world.out() == []

    await world.wait(10)
    assert len(world.out()) == 10
    assert len(await world.drain()) == 50


async def test_what_waits_for_its_key_goes_to_the_store_when_it_has_too_many_bytes(
    world: PumpWorld,
) -> None:
    seqs = await world.publish(*["a"] * 60, "b", data=DATA)
    await world.settle()
    assert world.out() == [(1,), (61,)]
    assert sum(world.bytes_in_memory()) <= MOST

    for _ in seqs[:-2]:
        await answer_all(world, 200)
        assert sum(world.bytes_in_memory()) <= MOST
    assert [seqs for request in world.courier.sent for seqs in request.seqs] == [
        1,
        61,
        *range(2, 61),
    ]


@with_fields(max_in_flight=100)
async def test_keys_that_go_on_at_once_read_no_more_bytes_than_they_may(world: PumpWorld) -> None:
    await world.publish(*keys(30), data=DATA)
    while (await world.stats()).rows.get("retry", 0) < 30:
        await answer_all(world, 404)
    await world.publish(*keys(30) * 3, data=DATA)  # behind the first of each
    await world.settle()
    assert (await world.stats()).rows == {"retry": 30, "held": 90}

    await world.wait(10)
    while world.out():
        assert sum(world.bytes_in_memory()) <= MOST
        await answer_all(world, 200)
    assert (await world.stats()).backlog == 0


@pytest.mark.parametrize("world", [{"ordering": "key"}, {"ordering": "topic"}], indirect=True)
async def test_message_that_has_more_bytes_than_all_may_is_sent(world: PumpWorld) -> None:
    world.most_bytes = 1
    seqs = await world.publish(*keys(5), data=DATA)
    await world.settle()
    assert len(world.out()) == 1
    await world.answer(1, 500)
    await world.drain()
    assert {seq for request in world.courier.sent for seq in request.seqs} == set(seqs)


@with_fields(ordering="topic", format="batch", max_batch=5)
async def test_ordered_topic_keeps_its_order_where_a_page_of_rows_ends_early(
    world: PumpWorld,
) -> None:
    await world.publish(*keys(5), data=DATA)
    await world.settle()
    world.most_bytes = MOST
    while len((await world.stats()).rows) == 0:
        await answer_all(world, 500)
    await world.publish(*keys(5), data=DATA)

    await world.drain()

    sent = [seq for request in world.courier.sent for seq in request.seqs]
    firsts = list(dict.fromkeys(sent))
    assert firsts == sorted(firsts)


def test_share_of_a_subscription_is_smaller_the_more_there_are() -> None:
    shares = [share_of(count) for count in (0, 1, 8, 16, 1000)]
    assert shares == [MOST_BYTES, MOST_BYTES, MOST_BYTES, ALL_BYTES // 16, LEAST_BYTES]
