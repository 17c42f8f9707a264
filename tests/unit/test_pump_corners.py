"""The pump where two things come together: blocks, crashes, new orders, many keys, a hot one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from broker.dispatch.pump import SLOW_S
from broker.model import Message
from broker.store.sqlite.group import LAZY_S
from broker.subscription import RetryPolicy
from unit.pump_world import NAME, TOPIC, PumpWorld, with_fields

pytestmark = pytest.mark.anyio


# -- new orders ----------------------------------------------------------------------------------


@with_fields(
    ordering="none", when_exhausted="block", retry=RetryPolicy(max_attempts=0, min_backoff_s=10)
)
async def test_key_that_is_ordered_anew_does_not_pass_its_blocked_delivery(
    world: PumpWorld,
) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(2, 422)
    await world.answer(1, 500)
    await world.answer(3, 500)
    await world.configure(ordering="key")
    await world.wait(10)
    assert world.out() == [(1,)]
    await world.answer(1)
    assert world.out() == []
    assert await world.perform(lambda acts: acts.give_up(2))
    assert world.out() == [(3,)]


@pytest.mark.parametrize("turns", range(1, 9))
async def test_order_that_changes_again_in_the_midst_of_a_change_is_kept(
    world: PumpWorld, turns: int
) -> None:
    await world.publish("a", "a")
    await world.settle()
    await world.answer(1, 500)
    for ordering in ("none", "key"):
        world.subscription = replace(world.subscription, ordering=ordering)
        world.pump.configure(world.subscription)
        await world.turn(turns)
    await world.settle()
    for job in list(world.courier.out):  # the other order may have had its time
        world.end(job)
    await world.publish("b", "b")
    await world.settle()
    assert world.out() == [(3,)]


# -- time that passes meanwhile --------------------------------------------------------------------


@pytest.mark.parametrize("reading", range(1, 9))
async def test_probe_is_sent_in_whichever_moment_of_a_turn_its_time_comes(
    world: PumpWorld, reading: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.publish(*"abcdefghij")
    await world.settle()
    for seq in range(1, 11):
        await world.answer(seq, 500)
    await world.publish("z")
    await world.settle()
    assert world.out() == []
    left = reading

    def clock() -> float:
        nonlocal left
        left -= 1
        if left == 0:
            world.home.clock.now += 1  # the pause is over
        return world.home.clock()

    monkeypatch.setattr(world.pump, "_monotonic", clock)
    while left > 0:
        world.shard.bell.set()
        await world.settle()
    assert world.out() == [(11,)]


# -- at most once --------------------------------------------------------------------------------


@with_fields(format="batch", max_batch=3, max_in_flight=1, guarantee="at-most-once")
async def test_at_most_once_sends_nothing_twice_though_what_was_read_first_was_not_sent(
    world: PumpWorld,
) -> None:
    """A message that is ready and stays behind must not hold the position back."""
    await world.publish("a", "a", "b", "a", "c")
    await world.settle()
    first = {seq for seqs in world.out() for seq in seqs}
    await world.crash()
    assert sorted([*first, *await world.drain()]) == [1, 2, 3, 4, 5]


@with_fields(guarantee="at-most-once")
async def test_at_most_once_goes_on_after_a_courier_that_ended_while_it_was_settled(
    world: PumpWorld,
) -> None:
    await world.publish("a", "a")
    while world.pump.idle():
        await world.turn(1)
    world.courier.up = False
    await world.settle()
    assert (world.out(), world.courier.sent) == ([(1,)], [])
    world.lose()
    await world.settle()
    assert world.out() == [(2,)]
    await world.answer(2)
    assert (await world.stats()).backlog == 0


# -- many keys, and one hot one ------------------------------------------------------------------


async def test_parked_key_that_the_lanes_forgot_does_not_pass_its_first(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.dispatch.lanes.PARKED_KEPT", 1)
    await world.crash()  # lanes that keep one
    await world.publish("a", "b")
    await world.settle()
    await world.answer(1, 500)
    await world.answer(2, 500)
    await world.publish("a", "b")
    await world.settle()
    assert world.out() == []
    assert sorted(await world.drain()) == [1, 2, 3, 4]


@with_fields(paused=True)
async def test_turn_ends_however_much_a_key_has(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 10
    monkeypatch.setattr("broker.dispatch.intake.TURN", most)
    await world.configure(max_in_flight=4)
    await world.publish(*"a" * 40)
    await world.settle()
    fetched: list[Message] = []
    fetch = world.shard.fetch

    async def counted(limit: int) -> Sequence[Message]:
        page = await fetch(limit)
        fetched.extend(page)
        return page

    async def count() -> int:
        return len(fetched)

    monkeypatch.setattr(world.shard, "fetch", counted)
    world.pump.configure(replace(world.subscription, paused=False))
    before = [await world.pump.perform(count) for _ in range(8)]
    assert max(after - early for early, after in pairwise(before)) <= most + 4
    assert before[-1] == 40
    assert await world.drain() == list(range(2, 41))


async def test_any_number_of_rows_is_passed_after_a_crash(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.dispatch.intake.PAGE", 1)
    (first,) = await world.publish(None)
    await world.settle()
    world.pump.drain()
    *rows, last = await world.publish(*[None] * 1101)
    while await world.perform(lambda acts: acts.give_up_before(last, 0.0)):
        pass
    await world.crash()
    assert await world.drain() == [first, last]
    assert (await world.stats()).rows == {"dead": len(rows)}


async def test_paused_pump_ends_with_its_subscription(world: PumpWorld) -> None:
    await world.configure(paused=True)
    await world.store.drop_subscription(TOPIC, NAME)
    await world.ended()
    assert world.courier.endpoint is None


async def test_ack_with_nothing_behind_it_is_written_without_a_turn(world: PumpWorld) -> None:
    (seq,) = await world.publish(None)
    await world.settle()
    world.end(world.courier.sent[0].job)
    assert not world.shard.bell.is_set()
    await asyncio.sleep(2 * LAZY_S)
    assert world.durable() == (seq, {})


async def test_acks_that_come_together_are_written_without_a_turn(world: PumpWorld) -> None:
    seqs = await world.publish(None, None, None)
    await world.settle()
    for request in world.courier.sent[:2]:
        world.end(request.job)
    assert not world.shard.bell.is_set()
    await asyncio.sleep(2 * LAZY_S)
    assert world.durable() == (seqs[1], {})


async def test_slow_request_is_found_without_a_bell(world: PumpWorld) -> None:
    await world.publish(None, None)
    await world.settle()
    await world.turn(5)
    world.home.clock.now += SLOW_S
    await asyncio.sleep(SLOW_S + LAZY_S)  # the reminder comes by the real clock
    await world.settle()
    assert [(seq, row.state) for seq, row in world.durable()[1].items()] == [
        (1, "leased"),
        (2, "leased"),
    ]


@with_fields(max_in_flight=1)
async def test_ack_with_something_behind_it_rings(world: PumpWorld) -> None:
    await world.publish(None, None)
    await world.settle()
    world.end(world.courier.sent[0].job)
    assert world.shard.bell.is_set()
    await world.settle()
    assert world.out() == [(2,)]
