"""Replays, seeks and late verdicts where something of their key is out, leased or blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal

import pytest

from broker.ack_urls import Claim
from broker.dispatch.pump import SLOW_S
from broker.dispatch.verdicts import LateVerdict, Positions
from broker.store.port import Unavailable
from broker.subscription import RetryPolicy
from unit.pump_world import PumpWorld, with_fields

pytestmark = pytest.mark.anyio
LATER = {"webhook-verdict": "later"}
LEASE_S = 31  # longer than the ack deadline
ONE_ATTEMPT = RetryPolicy(max_attempts=1, min_backoff_s=10)


def claim_of(world: PumpWorld, *seqs: int) -> Claim:
    """Return what the ack URL of a first attempt at these names."""
    return Claim(world.shard.id, world.shard.generation, [*seqs], [1] * len(seqs))


# -- replays -------------------------------------------------------------------------------------


@with_fields(allow_later=True)
async def test_key_with_a_replayed_one_goes_on_when_its_lease_has_lapsed(world: PumpWorld) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 422)
    await world.answer(2, 200, **LATER)
    assert await world.perform(lambda acts: acts.replay(None)) == 1
    assert world.out() == []
    await world.wait(LEASE_S)
    assert world.out() == [(1,)]
    await world.wait(10)
    assert world.out() == [(1,)]
    assert await world.drain() == [2, 3]


@with_fields(allow_later=True)
async def test_replayed_one_comes_before_what_is_asked_for_again(world: PumpWorld) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 422)
    await world.answer(2, 200, **LATER)
    await world.perform(lambda acts: acts.replay(None))
    again = LateVerdict("retry")
    assert await world.perform(lambda acts: acts.conclude(claim_of(world, 2), again)) == "settled"
    await world.settle()
    assert world.out() == [(1,)]
    assert await world.drain() == [2, 3]


@pytest.mark.parametrize("slow", [False, True])
async def test_replayed_one_comes_before_what_was_out_and_failed(
    world: PumpWorld, slow: bool
) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 422)
    if slow:
        await world.wait(SLOW_S)
    await world.perform(lambda acts: acts.replay(None))
    assert world.out() == [(2,)]
    await world.answer(2, 500)
    assert world.out() == [(1,)]
    await world.answer(1)
    assert world.out() == []  # the one that failed waits its backoff
    await world.wait(10)
    assert world.out() == [(2,)]
    assert await world.drain() == [3]


@with_fields(format="batch", max_batch=3)
async def test_replayed_one_comes_before_a_batch_that_was_out_and_failed(world: PumpWorld) -> None:
    await world.publish("a")
    await world.settle()
    await world.answer(1, 422)
    await world.publish("a", "a", "b")
    await world.settle()
    assert world.out() == [(2, 3, 4)]
    await world.perform(lambda acts: acts.replay(None))
    await world.answer(2, 500)
    assert world.out() == [(1,)]
    await world.answer(1)
    await world.wait(10)
    assert [seq for seqs in world.out() for seq in seqs] == [2, 4]
    assert await world.drain() == [3]


@with_fields(retry=ONE_ATTEMPT)
async def test_replayed_one_comes_before_a_blocked_one_that_is_let_go(world: PumpWorld) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 422)
    await world.configure(when_exhausted="block")
    await world.answer(2, 422)
    await world.perform(lambda acts: acts.replay(None))
    assert world.out() == []
    assert await world.perform(lambda acts: acts.retry_now(2))
    assert world.out() == [(1,)]
    assert await world.drain() == [2, 3]


@with_fields(ordering="topic", allow_later=True)
@pytest.mark.parametrize("before", [False, True])
async def test_ordered_topic_has_one_out_whatever_is_replayed(
    world: PumpWorld, before: bool
) -> None:
    """The replay is before the answer, or after it."""
    await world.publish("a", "b", "c")
    await world.settle()
    await world.answer(1, 422)
    if before:
        await world.perform(lambda acts: acts.replay(None))
    await world.answer(2, 200, **LATER)
    if not before:
        await world.perform(lambda acts: acts.replay(None))
    assert world.out() == []
    await world.wait(LEASE_S)
    assert world.out() == [(1,)]
    await world.answer(1)
    assert await world.drain() == [2, 3]


@with_fields(retry=ONE_ATTEMPT)
async def test_no_replay_lets_a_key_pass_its_blocked_delivery_after_a_crash(
    world: PumpWorld,
) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 422)
    await world.configure(when_exhausted="block")
    await world.answer(2, 422)
    await world.perform(lambda acts: acts.replay(None))
    await world.crash()
    await world.settle()
    assert world.out() == [(1,)]
    await world.answer(1)
    assert world.out() == []
    assert await world.perform(lambda acts: acts.give_up(2))
    assert world.out() == [(3,)]


@with_fields(max_in_flight=2)
async def test_replayed_one_goes_before_what_of_its_key_is_ready(world: PumpWorld) -> None:
    await world.publish("a", "a", "a", "b")
    await world.settle()
    await world.answer(1, 422)
    await world.answer(4, 503, **{"retry-after": "30"})
    await world.answer(2)
    assert world.out() == []
    await world.perform(lambda acts: acts.replay(None))
    await world.wait(30)
    assert set(world.out()) == {(1,), (4,)}
    await world.answer(1)
    assert set(world.out()) == {(3,), (4,)}


# -- dropped dead letters -------------------------------------------------------------------------


@with_fields(max_in_flight=3)
async def test_dropped_dead_letter_does_not_come_again_after_a_crash(world: PumpWorld) -> None:
    """What is out, waits behind it or is ready holds the position below the dead letter."""
    await world.publish("a", "b", "a", "c", "d", "e")
    await world.settle()
    assert world.out() == [(1,), (2,), (4,)]
    await world.answer(4, 422)
    assert await world.perform(lambda acts: acts.drop_dead(4))
    position, rows = world.durable()
    assert (position >= 4, rows.keys() >= {1, 2, 3}, 4 in rows) == (True, True, False)
    await world.crash()
    assert sorted(await world.drain()) == [1, 2, 3, 5, 6]


async def test_dead_letter_is_dropped_without_more_where_the_position_has_passed_it(
    world: PumpWorld,
) -> None:
    await world.publish("a", "b")
    await world.settle()
    await world.answer(1, 422)
    assert await world.perform(lambda acts: acts.drop_dead(1))
    assert world.durable() == (1, {})
    await world.crash()
    assert await world.drain() == [2]


# -- what is too old -----------------------------------------------------------------------------


async def give_up_before(world: PumpWorld, seq: int, since: float) -> int:
    """Give up again and again, as the sweeper does; say how many."""
    count = 0
    while given := await world.perform(lambda acts: acts.give_up_before(seq, since)):
        count += given
    return count


@pytest.mark.parametrize(
    ("world", "out"),
    [
        ({"max_in_flight": 2}, [(1,), (5,)]),
        ({"ordering": "none", "max_in_flight": 2}, [(1,), (2,)]),
        ({"ordering": "topic"}, [(1,)]),
        ({"ordering": "topic", "format": "batch", "max_batch": 2}, [(1, 2)]),
        ({"guarantee": "at-most-once", "max_in_flight": 2}, [(1,), (5,)]),
    ],
    indirect=["world"],
    ids=["key", "none", "topic", "batches", "at most once"],
)
async def test_what_waits_behind_a_slow_endpoint_is_given_up_when_it_is_too_old(
    world: PumpWorld, out: list[tuple[int, ...]]
) -> None:
    await world.publish("a", "a", "a", "a", "b", "b", "c", "a", "d")
    await world.settle()
    assert world.out() == out
    sent = [seq for seqs in out for seq in seqs]
    old = set(range(1, 8)) - set(sent)

    assert await give_up_before(world, 8, world.home.clock()) == len(old)

    _, rows = world.durable()
    assert {seq for seq, row in rows.items() if row.state == "dead"} == old
    assert world.out() == out, "what is out is left to end"
    assert sorted(await world.drain()) == [8, 9]


@with_fields(max_in_flight=1)
async def test_replayed_one_is_too_old_when_its_replay_is_however_often_it_was_tried(
    world: PumpWorld,
) -> None:
    born = world.home.clock()
    await world.publish("a", "a", "b", "b")
    await world.settle()
    await world.answer(1, 422)
    await world.wait(100)
    await world.perform(lambda acts: acts.replay([1]))
    assert world.out() == [(2,)]
    await world.answer(2)
    assert world.out() == [(1,)]
    await world.answer(1, 500)
    await world.answer(3)
    assert world.out() == [(4,)]
    await world.wait(1000)
    await world.answer(4)
    assert world.out() == [(1,)]
    await world.answer(1, 500)

    assert await give_up_before(world, 5, born + 99) == 0
    assert await give_up_before(world, 5, born + 101) == 1
    _, rows = world.durable()
    assert {seq: row.state for seq, row in rows.items()} == {1: "dead"}


@with_fields(max_in_flight=1)
async def test_replayed_one_in_memory_is_spared_as_long_as_its_replay_is_young(
    world: PumpWorld,
) -> None:
    born = world.home.clock()
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 422)
    await world.answer(2, 422)
    await world.answer(3, 422)
    await world.wait(100)
    await world.perform(lambda acts: acts.replay(None))
    await world.publish("a", "a")
    await world.settle()
    assert world.out() == [(1,)]
    await world.answer(1)
    assert world.out() == [(2,)], "and with it the others came into memory"

    assert await give_up_before(world, 6, born + 99) == 2
    assert await world.drain() == [3]
    _, rows = world.durable()
    assert {seq: row.state for seq, row in rows.items()} == dict.fromkeys((4, 5), "dead")


@with_fields(max_in_flight=2)
async def test_key_goes_on_whose_ready_one_is_too_old(world: PumpWorld) -> None:
    await world.publish("a", "a", "a", "b")
    await world.settle()
    await world.configure(max_in_flight=1)
    await world.answer(1)
    assert world.out() == [(4,)]

    assert await give_up_before(world, 3, world.home.clock()) == 1

    assert await world.drain() == [3]


async def test_what_came_back_from_the_store_is_given_up_too(world: PumpWorld) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 500)
    await world.wait(10)
    await world.answer(1)
    assert world.out() == [(2,)]

    assert await give_up_before(world, 4, world.home.clock()) == 1

    assert await world.drain() == []
    _, rows = world.durable()
    assert {seq: row.state for seq, row in rows.items()} == {3: "dead"}


async def test_key_goes_on_whose_attempt_ends_while_the_store_gives_up(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is in the file, and gone a moment later: nothing is to wait for it."""
    await world.publish("a")
    await world.settle()
    await world.wait(1)  # a slow one, which has a row
    assert world.durable()[1].keys() == {1}
    give_up = world.shard.give_up

    async def give_up_and_end(*asked: Any) -> tuple[int, Sequence[str]]:
        given_up = await give_up(*asked)
        world.end(1)
        return given_up

    monkeypatch.setattr(world.shard, "give_up", give_up_and_end)
    await world.perform(lambda acts: acts.give_up_before(1, 0.0))
    await world.publish("a")
    await world.drain()
    assert [request.seqs for request in world.courier.sent] == [(1,), (2,)]


async def test_key_goes_on_whose_attempt_ends_while_waiting_keys_are_read(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.publish("a")
    await world.settle()
    await world.wait(1)
    waiting_keys = world.shard.waiting_keys

    async def read_and_end(limit: int) -> Sequence[str]:
        found = await waiting_keys(limit)
        world.end(1)
        return found

    monkeypatch.setattr(world.shard, "waiting_keys", read_and_end)
    await world.perform(lambda acts: acts.give_up_before(1, 0.0))
    await world.publish("a")
    await world.drain()
    assert [request.seqs for request in world.courier.sent] == [(1,), (2,)]


# -- seeks ---------------------------------------------------------------------------------------


@with_fields(allow_later=True)
async def test_key_waits_for_a_lease_that_was_out_at_a_seek(world: PumpWorld) -> None:
    await world.publish("a", "a", "b")
    await world.settle()
    await world.answer(1, 200, **LATER)
    await world.answer(3)
    await world.perform(lambda acts: acts.seek(0))
    assert world.out() == [(3,)]
    await world.wait(LEASE_S)
    assert world.out() == [(3,), (1,)]
    assert await world.drain() == [2]


@with_fields(allow_later=True, ordering="topic")
async def test_ordered_topic_waits_for_a_lease_that_was_out_at_a_seek(world: PumpWorld) -> None:
    await world.publish("a", "b")
    await world.settle()
    await world.answer(1, 200, **LATER)
    await world.perform(lambda acts: acts.seek(0))
    assert world.out() == []
    await world.wait(LEASE_S)
    assert await world.drain() == [2]
    assert [request.seqs for request in world.courier.sent] == [(1,), (1,), (2,)]


async def test_key_waits_for_what_was_out_at_a_seek(world: PumpWorld) -> None:
    await world.publish("a", "a", "b")
    await world.settle()
    await world.answer(3)
    await world.perform(lambda acts: acts.seek(0))
    assert world.out() == [(1,), (3,)]
    await world.answer(1, 422)  # means nothing any more
    assert world.out() == [(3,), (1,)]
    assert (await world.stats()).rows == {}


# -- late verdicts -------------------------------------------------------------------------------


@with_fields(format="batch", max_batch=2, allow_later=True)
async def test_positions_of_a_late_verdict_stay_when_some_have_lapsed(world: PumpWorld) -> None:
    await world.publish("a", "b")
    await world.settle()
    assert world.out() == [(1, 2)]
    await world.answer(1, 200, **LATER)
    await world.configure(max_batch=1, max_in_flight=1)
    extend = LateVerdict("extend", ack_deadline_s=300.0)
    assert await world.perform(lambda acts: acts.conclude(claim_of(world, 2), extend)) == "extended"
    await world.wait(LEASE_S)  # the first has lapsed
    ack = LateVerdict("ack", positions=Positions(retry=frozenset({1})))
    assert await world.perform(lambda acts: acts.conclude(claim_of(world, 1, 2), ack)) == "settled"
    _, rows = world.durable()
    assert {seq: (row.state, row.attempts) for seq, row in rows.items()} == {
        1: ("retry", 1),
        2: ("retry", 1),
    }


@with_fields(format="batch", max_batch=3, allow_later=True)
async def test_key_does_not_go_on_while_a_later_one_of_a_batch_is_leased(world: PumpWorld) -> None:
    await world.publish("a", "a", "a", "a")
    await world.settle()
    await world.answer(1, 200, **LATER)
    await world.configure(max_batch=1, max_in_flight=1, retry=ONE_ATTEMPT)
    extend = LateVerdict("extend", ack_deadline_s=300.0)
    await world.perform(lambda acts: acts.conclude(claim_of(world, 2, 3), extend))
    await world.wait(LEASE_S)
    _, rows = world.durable()
    assert (rows[1].state, rows[2].state, rows[3].state) == ("dead", "leased", "leased")
    assert world.out() == []
    await world.wait(300)
    _, rows = world.durable()
    assert {rows[seq].state for seq in (1, 2, 3)} == {"dead"}
    assert world.out() == [(4,)]


@pytest.mark.parametrize("verdict", [None, "retry", "ack"])
@with_fields(format="batch", max_batch=3, allow_later=True, guarantee="exactly-once")
async def test_key_of_a_batch_that_was_answered_later_and_failed_comes_back_at_one_time(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch, verdict: Literal["retry", "ack"] | None
) -> None:
    """The `ack` fails because it has no receipt."""
    draws = count(1)
    monkeypatch.setattr(world.pump.settlement, "_random", lambda: next(draws) / 10)
    await world.publish("a", "a", "a")
    await world.settle()
    await world.answer(1, 200, **LATER)
    if verdict is None:
        await world.wait(LEASE_S)
    else:
        said = LateVerdict(verdict)
        await world.perform(lambda acts: acts.conclude(claim_of(world, 1, 2, 3), said))

    _, rows = world.durable()
    assert [row.state for row in rows.values()] == ["retry", "held", "held"]
    assert len({row.due_at for row in rows.values()}) == 1


@with_fields(allow_later=True)
async def test_lease_that_is_extended_before_its_answer_ends_later(world: PumpWorld) -> None:
    await world.publish("a")
    await world.settle()
    extend = LateVerdict("extend", ack_deadline_s=300.0)
    assert await world.perform(lambda acts: acts.conclude(claim_of(world, 1), extend)) == "extended"
    await world.answer(1, 200, **LATER)
    _, rows = world.durable()
    assert (rows[1].state, rows[1].due_at) == ("leased", world.home.clock() + 300)


# -- an act that does not end --------------------------------------------------------------------


async def test_who_asked_hears_that_the_pump_was_cancelled_in_the_midst(world: PumpWorld) -> None:
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    asking = asyncio.ensure_future(world.pump.perform(endless))
    await begun.wait()
    await world.crash()
    with pytest.raises(Unavailable):  # and not that the subscription has gone
        await asyncio.wait_for(asking, timeout=5)
