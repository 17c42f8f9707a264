"""Pulling, where it meets seeks, crashes and keys with much behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from broker.dispatch.policy import ACK, Decision
from broker.dispatch.puller import Pulled
from broker.dispatch.verdicts import LateVerdict
from broker.store.port import Due
from broker.subscription import RetryPolicy
from unit.pump_world import PumpWorld, with_fields

pytestmark = pytest.mark.anyio
pulled_from = with_fields(endpoint=None)


async def pull(world: PumpWorld, limit: int = 100) -> list[Pulled]:
    """Pull what there is now."""
    answer = world.pump.pull(limit, patient=False)
    await world.settle()
    return answer.result()


async def ack(world: PumpWorld, *pulled: Pulled) -> list[bool]:
    """Acknowledge; say of each whether it was leased still."""
    claims = [each.claim for each in pulled if each.claim is not None]
    return await world.perform(
        lambda acts: acts.settle_pulled(claims, lambda rows: [ACK] * len(rows))
    )


async def nack(world: PumpWorld, *pulled: Pulled, delay_s: float | None = None) -> None:
    """Hand back."""
    settlement = world.pump.settlement
    claims = [each.claim for each in pulled if each.claim is not None]

    def decide(rows: Sequence[Due]) -> Sequence[Decision]:
        return settlement.nacked(rows, delay_s)

    assert all(await world.perform(lambda acts: acts.settle_pulled(claims, decide)))


def seqs(pulled: list[Pulled]) -> list[int]:
    return [each.message.seq for each in pulled]


@pulled_from
async def test_key_waits_for_its_lease_through_any_number_of_seeks(world: PumpWorld) -> None:
    await world.publish("a", "b")
    (first,) = await pull(world, limit=1)
    for _ in range(3):
        await world.perform(lambda acts: acts.seek(0))

    assert seqs(await pull(world)) == [2]
    assert await ack(world, first) == [False]
    assert seqs(await pull(world)) == [1]


@pulled_from
async def test_lease_that_is_cut_short_ends_then_though_nobody_pulls(world: PumpWorld) -> None:
    await world.publish("a")
    (first,) = await pull(world)
    assert first.claim is not None

    def cut_short(rows: Sequence[Due]) -> None:
        world.pump.settlement.extend(rows, LateVerdict("extend", ack_deadline_s=1))

    claims = [first.claim]
    assert await world.perform(lambda acts: acts.settle_pulled(claims, cut_short)) == [True]
    await world.wait(1)

    _, rows = world.durable()
    assert (rows[1].state, rows[1].attempts) == ("retry", 1)


@with_fields(allow_later=True, ack_deadline_s=30)
async def test_lease_of_before_it_was_pulled_from_ends_though_nobody_pulls(
    world: PumpWorld,
) -> None:
    await world.publish("a")
    await world.answer(1, 202, **{"webhook-verdict": "later"})
    await world.configure(endpoint=None)
    assert world.durable()[1][1].state == "leased"
    await world.wait(30)

    _, rows = world.durable()
    assert (rows[1].state, rows[1].attempts) == ("retry", 1)


@pulled_from
async def test_acked_message_does_not_come_again_whatever_waits_before_it(
    world: PumpWorld,
) -> None:
    """What waits for a lease of before the seek is in memory, and holds the position."""
    await world.publish("a", "b", None)
    await pull(world, limit=1)
    await world.perform(lambda acts: acts.seek(0))
    later = await pull(world)
    assert seqs(later) == [2, 3]

    assert await ack(world, *later) == [True, True]

    await world.crash()
    await world.settle()
    assert seqs(await pull(world)) == [1]


@pulled_from
async def test_who_does_not_wait_is_given_what_is_behind_much_of_a_leased_key(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.dispatch.intake.TURN", 3)
    await world.publish(*["a"] * 20, "b")
    assert seqs(await pull(world, limit=1)) == [1]

    assert seqs(await pull(world, limit=1)) == [21]
    assert await pull(world, limit=1) == []


@pulled_from
async def test_who_waits_is_told_once_that_nothing_more_is_sent(world: PumpWorld) -> None:
    """Or whoever asks again would ask, and be told, for as long as it takes to end."""
    waiting = world.pump.pull(1, patient=True)
    world.pump.drain()
    again = world.pump.pull(1, patient=True)
    await world.settle()

    assert waiting.result() == []
    assert not again.done()
    assert await pull(world) == []


@pulled_from
async def test_acks_of_many_are_settled_a_few_at_a_time(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.dispatch.interventions.SETTLED_AT_ONCE", 3)
    await world.publish(*[None] * 10)
    pulled = await pull(world)

    assert await ack(world, *pulled, *pulled[:2]) == [True] * 10 + [False] * 2
    assert world.durable() == (10, {})


@pulled_from
async def test_many_leases_lapse_together(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.dispatch.intake.PAGE", 3)
    await world.publish(*[None] * 10)
    await pull(world)

    await world.wait(world.subscription.ack_deadline_s)

    _, rows = world.durable()
    assert {(row.state, row.attempts) for row in rows.values()} == {("retry", 1)}
    assert len(rows) == 10


@with_fields(endpoint=None, rate_limit=1)
async def test_delivery_that_is_due_by_the_end_of_a_turn_is_pulled(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.publish("a", "b")
    assert seqs(await pull(world)) == [1]
    serve = world.pump._puller.serve

    async def serve_slowly(*arguments: Any) -> None:
        await serve(*arguments)
        monkeypatch.undo()
        world.home.clock.now += 5

    monkeypatch.setattr(world.pump._puller, "serve", serve_slowly)
    answer = world.pump.pull(1, patient=True)
    await world.settle()

    assert seqs(answer.result()) == [2]


# -- what failed waits its own time, whatever it has stood behind ----------------------------------


@with_fields(endpoint=None, ordering="none")
@pytest.mark.parametrize("crash", [False, True])
async def test_nacked_one_waits_its_delay_behind_another_of_its_key(
    world: PumpWorld, crash: bool
) -> None:
    await world.publish("a", "a", "a")
    first, second = await pull(world, limit=2)
    await nack(world, first, delay_s=5)
    await nack(world, second, delay_s=100)
    await world.configure(ordering="key")
    await world.wait(5)
    (first,) = await pull(world)
    await ack(world, first)

    assert await pull(world) == []
    if crash:
        await world.crash()
        await world.settle()
    await world.wait(94)
    assert await pull(world) == []
    await world.wait(1)
    (second,) = await pull(world)
    assert (second.message.seq, second.attempt) == (2, 2)
    await ack(world, second)
    assert seqs(await pull(world)) == [3]


@with_fields(endpoint=None, ordering="none")
@pytest.mark.parametrize("ordering", ["none", "topic"])
async def test_nacked_one_waits_its_delay_however_often_the_order_changes(
    world: PumpWorld, ordering: str
) -> None:
    await world.publish("a", "a")
    first, second = await pull(world)
    await nack(world, first, delay_s=50)
    await nack(world, second, delay_s=100)

    await world.configure(ordering="key")
    await world.configure(ordering=ordering)

    await world.wait(50)
    (first,) = await pull(world)
    await ack(world, first)
    await world.wait(49)
    assert await pull(world) == []
    await world.wait(1)
    assert seqs(await pull(world)) == [2]


@with_fields(endpoint=None, retry=RetryPolicy(max_attempts=1))
async def test_nacked_one_waits_its_delay_behind_a_replayed_one(world: PumpWorld) -> None:
    await world.publish("a", "a")
    await nack(world, *await pull(world))
    await world.configure(retry=RetryPolicy(max_attempts=0))
    await nack(world, *await pull(world), delay_s=100)
    await world.perform(lambda acts: acts.replay(None))
    (replayed,) = await pull(world)
    assert replayed.message.seq == 1
    await ack(world, replayed)

    assert await pull(world) == []
    await world.wait(100)
    assert seqs(await pull(world)) == [2]


@with_fields(endpoint=None, ordering="none")
async def test_lapsed_one_waits_its_backoff_behind_another_of_its_key(world: PumpWorld) -> None:
    await world.publish("a", "a")
    await nack(world, *await pull(world, limit=1), delay_s=5)
    (second,) = await pull(world)
    assert second.message.seq == 2
    await world.configure(ordering="key")
    await world.wait(world.subscription.ack_deadline_s)  # the second lapses, and the first is due
    (first,) = await pull(world)
    assert first.message.seq == 1
    await ack(world, first)

    assert await pull(world) == []
    await world.wait(10)
    assert seqs(await pull(world)) == [2]


@with_fields(endpoint=None, ordering="none")
async def test_those_nacked_at_once_wait_their_own_backoff_each(world: PumpWorld) -> None:
    await world.publish("a", "a")
    first, second = await pull(world)
    await nack(world, second, delay_s=0)
    (second,) = await pull(world)
    await world.configure(ordering="key")
    await nack(world, first, second)  # for 10 seconds, and for 20
    await world.wait(10)
    (first,) = await pull(world)
    await ack(world, first)

    assert await pull(world) == []
    await world.wait(10)
    assert seqs(await pull(world)) == [2]


# -- a replayed one comes after what is out, and before what is sent again ------------------------

ONE_ATTEMPT = RetryPolicy(max_attempts=1, min_backoff_s=10)
ANY_ATTEMPTS = RetryPolicy(max_attempts=0, min_backoff_s=10)


async def lease_behind_a_dead_letter(world: PumpWorld) -> Pulled:
    """Have a first message given up, and pull the second of its key."""
    await world.publish("a", "a", "a")
    await nack(world, *await pull(world))
    await world.configure(retry=ANY_ATTEMPTS)
    (leased,) = await pull(world)
    assert leased.message.seq == 2
    return leased


async def pull_and_ack_all(world: PumpWorld) -> list[int]:
    """Pull and acknowledge until nothing is owed; return the sequences in order."""
    found: list[int] = []
    while (await world.stats()).backlog:
        pulled = await pull(world, limit=1)
        assert await ack(world, *pulled) == [True] * len(pulled)
        found += seqs(pulled)
        await world.wait(0 if pulled else 1000)
    return found


@pytest.mark.parametrize(
    "world",
    [
        {"endpoint": None, "retry": ONE_ATTEMPT, "ordering": ordering}
        for ordering in ("key", "topic")
    ],
    indirect=True,
    ids=["key", "topic"],
)
@pytest.mark.parametrize("crash", ["", "before", "after", "between"])
@pytest.mark.parametrize("end", ["ack", "nack", "lapse"])
async def test_replayed_one_comes_when_the_lease_has_ended_and_before_it_comes_again(
    world: PumpWorld, crash: str, end: str
) -> None:
    """What had been pulled is out still, also if nobody got the answer."""
    leased = await lease_behind_a_dead_letter(world)
    if crash == "before":
        await world.crash()
        await world.settle()
    await world.perform(lambda acts: acts.replay(None))
    if crash == "between":
        await world.crash()
        await world.settle()

    assert await pull(world) == []
    if end == "ack":
        assert await ack(world, leased) == [True]
    elif end == "nack":
        await nack(world, leased)
    else:
        await world.wait(world.subscription.ack_deadline_s)
    if crash == "after":
        await world.crash()
        await world.settle()

    (replayed,) = await pull(world)
    assert (replayed.message.seq, replayed.attempt) == (1, 1)
    assert await pull(world) == []
    await ack(world, replayed)
    if end != "ack":
        assert await pull(world) == []  # the one that failed waits its backoff
    assert await pull_and_ack_all(world) == ([3] if end == "ack" else [2, 3])


@pulled_from
async def test_ack_does_not_let_a_key_go_of_which_another_is_leased(world: PumpWorld) -> None:
    await world.configure(ordering="none", retry=ONE_ATTEMPT)
    await world.publish("a", "a", "a")
    first, second, third = await pull(world)
    await nack(world, first)
    await world.configure(ordering="key")
    await world.perform(lambda acts: acts.replay(None))

    await ack(world, third)
    assert await pull(world) == []
    await ack(world, second)
    assert seqs(await pull(world)) == [1]
