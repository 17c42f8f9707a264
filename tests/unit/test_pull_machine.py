"""Pulling in any order with anything else: what Hypothesis finds, within what must always hold."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from broker.dispatch.dispatcher import Dispatcher
from broker.dispatch.puller import Pulled
from broker.dispatch.pump import Pump
from broker.pulls import Pulls
from broker.subscription import RetryPolicy, Subscription
from contract.homes import SqliteHome
from unit.pump_world import NAME, SUBSCRIPTION, TOPIC, PumpWorld, Row

KEYS = st.lists(st.sampled_from(["a", "a", "a", "b", None]), min_size=1, max_size=8)
CHOICES = st.lists(st.integers(0, 30), min_size=1, max_size=4)
ACK_DEADLINE_S = 30
MIN_BACKOFF_S = 10
MAX_BACKOFF_S = 1000
LONGER_THAN_ANYTHING_S = 2 * MAX_BACKOFF_S  # than any lease, delay or backoff
T = TypeVar("T")

CONFIGURATIONS = st.fixed_dictionaries(
    {},
    optional={
        "ordering": st.sampled_from(["key", "key", "topic", "none"]),
        "paused": st.sampled_from([False, False, True]),
        "retry": st.sampled_from([0, 2]).map(
            lambda most: RetryPolicy(most, min_backoff_s=MIN_BACKOFF_S, max_backoff_s=MAX_BACKOFF_S)
        ),
    },
)


@dataclass(frozen=True, slots=True)
class Lease:
    """Something that is out; `id` is None where the answer with it was lost."""

    seq: int
    until: float
    id: str | None


def some_of(things: list[T], which: list[int]) -> list[T]:
    """Choose some, none twice; the draw does not depend on how many there are."""
    places = dict.fromkeys(each % len(things) for each in which) if things else {}
    return [things[place] for place in places]


class Place:
    """Where Pulls looks the one subscription and its pump up."""

    def __init__(self, world: PumpWorld) -> None:
        self._world = world

    def subscription(self, topic: str, name: str) -> Subscription:
        return self._world.subscription

    def pump(self, topic: str, name: str) -> Pump:
        return self._world.pump


class PullMachine(RuleBasedStateMachine):
    """A model of what is owed, out, dead or done; answers and the file are held against it.

    `out` are the leases; `void` those from before a seek, which hold their keys until they end.
    `finished` are those that were acked or became dead letters. Order is asked for of what was
    published since the ordering was last changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        patch = self.closing.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("broker.store.sqlite.shard.WINDOW", 6)
        patch.setattr("broker.dispatch.intake.PAGE", 2)
        patch.setattr("broker.dispatch.intake.TURN", 3)
        patch.setattr("broker.dispatch.lanes.PARKED_KEPT", 1)
        patch.setattr("broker.dispatch.interventions.SETTLED_AT_ONCE", 2)
        folder = self.closing.enter_context(tempfile.TemporaryDirectory())
        self.runner = self.closing.enter_context(asyncio.Runner())
        self.home = SqliteHome(Path(folder))
        self.owed: dict[int, int] = {}  # the attempts of each that have ended
        self.due_at: dict[int, float] = {}  # of what waits for its next attempt
        self.out: dict[int, Lease] = {}
        self.void: list[Lease] = []
        self.spent: list[str] = []  # ids that are of no use any more
        self.dead: set[int] = set()
        self.finished: set[int] = set()
        self.last_seq = 0
        self.ordered_since = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    # -- what happens --------------------------------------------------------------------------

    @initialize(
        configuration=CONFIGURATIONS,
        guarantee=st.sampled_from(["at-least-once", "at-least-once", "at-most-once"]),
    )
    def start(self, configuration: dict[str, Any], guarantee: str) -> None:
        subscription = replace(
            SUBSCRIPTION,
            endpoint=None,
            ack_deadline_s=ACK_DEADLINE_S,
            **{"retry": RetryPolicy(0, MIN_BACKOFF_S, MAX_BACKOFF_S), **configuration},
        )
        self.world = PumpWorld(self.home, replace(subscription, guarantee=guarantee))
        self.run(self.world.start())
        place = Place(self.world)
        self.pulls = Pulls(place)
        self.pulls.dispatcher = cast(Dispatcher, place)
        self.look()

    @rule(keys=KEYS)
    def publish(self, keys: list[str | None]) -> None:
        self.store(keys)
        self.look()

    @rule(limit=st.integers(1, 6))
    def pull(self, limit: int) -> None:
        self.take(limit)
        self.look()

    @rule(limit=st.integers(1, 6), keys=KEYS)
    def pull_before_there_is_anything(self, limit: int, keys: list[str | None]) -> None:
        """Whoever waits is woken by what comes."""
        answer = self.run(self.ask(limit, patient=True))
        if not answer.done():
            assert not self.in_order(self.ready())
            self.store(keys)
            self.run(self.world.settle())
        assert answer.done() or not self.in_order(self.ready())
        if answer.done():
            self.got(limit, answer.result())
        answer.cancel()
        self.look()

    @rule(limit=st.integers(1, 6), turns=st.integers(0, 12))
    def go_away(self, limit: int, turns: int) -> None:
        """A client leaves before it is answered: nothing is leased to it, no attempt spent."""
        pulled = self.run(self.ask_and_leave(limit, turns))
        if pulled is not None:
            self.got(limit, pulled)
        elif self.world.subscription.guarantee == "at-most-once":
            self.believe_the_file()
        self.look()

    @rule(which=CHOICES)
    def ack(self, which: list[int]) -> None:
        chosen = self.some_out(which)
        self.say("ack", chosen)
        for lease in chosen:
            self.finish(lease.seq)
        self.look()

    @rule(which=CHOICES, delay_s=st.sampled_from([None, 0, 5, 200]))
    def nack(self, which: list[int], delay_s: float | None) -> None:
        chosen = self.some_out(which)
        self.say("nack", chosen, delay_s=delay_s)
        for lease in chosen:
            self.fail(lease.seq, delay_s)
        self.look()

    @rule(which=CHOICES, seconds=st.sampled_from([None, 1, 100]))
    def extend(self, which: list[int], seconds: float | None) -> None:
        chosen = self.some_out(which)
        self.say("extend", chosen, ack_deadline_s=seconds)
        until = self.home.clock() + (ACK_DEADLINE_S if seconds is None else seconds)
        for lease in chosen:
            self.out[lease.seq] = replace(lease, until=until)
        self.look()

    @rule(which=CHOICES, act=st.sampled_from(["ack", "nack", "extend"]))
    def answer_too_late(self, which: list[int], act: str) -> None:
        ids = some_of(self.spent, which)
        if ids:
            assert self.call(act, ids) == ["lapsed"] * len(ids)
        self.void = [lease for lease in self.void if lease.id not in ids]
        self.look()

    @rule(which=CHOICES, act=st.sampled_from(["ack", "nack"]), turns=st.integers(0, 12))
    def answer_and_crash(self, which: list[int], act: str, turns: int) -> None:
        """What was not answered is settled or not, and nothing between."""
        chosen = self.some_out(which)
        self.run(self.call_and_turn(act, [str(lease.id) for lease in chosen], turns))
        self.crash()
        self.look()

    @rule(limit=st.integers(1, 6), turns=st.integers(0, 12))
    def pull_and_crash(self, limit: int, turns: int) -> None:
        answer = self.run(self.ask_and_turn(limit, turns))
        if answer.done():
            self.got(limit, answer.result())
        self.crash()
        self.look()

    @rule()
    def crash_at_rest(self) -> None:
        self.crash()
        self.look()

    @rule(seconds=st.sampled_from([1, 5, 11, 31, 101]))
    def wait(self, seconds: float) -> None:
        self.let_pass(seconds)
        self.look()

    @rule(configuration=CONFIGURATIONS)
    def configure(self, configuration: dict[str, Any]) -> None:
        before = self.world.subscription.ordering
        self.run(self.world.configure(**configuration))
        if self.world.subscription.ordering != before:
            self.ordered_since = self.last_seq
            self.void.clear()
        self.look()

    @rule(which=st.none() | CHOICES)
    def replay(self, which: list[int] | None) -> None:
        chosen = None if which is None else some_of(sorted(self.dead), which)
        owed = self.dead if chosen is None else set(chosen)
        assert self.run(self.world.perform(lambda acts: acts.replay(chosen))) == len(owed)
        self.owed.update(dict.fromkeys(owed, 0))
        self.dead = self.dead - owed
        # Attempts are counted anew: what was spent of these may name them once more.
        self.spent.clear()
        self.look()

    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, self.last_seq))
        if self.ordering() != "none":
            self.void += self.out.values()
        self.spent += [lease.id for lease in self.out.values() if lease.id is not None]
        self.out.clear()
        self.due_at.clear()
        self.owed = dict.fromkeys(range(position + 1, self.last_seq + 1), 0)
        self.dead = {seq for seq in self.dead if seq <= position}
        self.finished = set(range(1, position + 1))
        self.run(self.world.perform(lambda acts: acts.seek(position)))
        self.look()

    # -- parts ---------------------------------------------------------------------------------

    def store(self, keys: list[str | None]) -> None:
        for seq in self.run(self.world.publish(*keys)):
            self.owed[seq] = 0
            self.last_seq = seq

    async def ask(self, limit: int, *, patient: bool) -> asyncio.Future[list[Pulled]]:
        answer = self.world.pump.pull(limit, patient=patient)
        await self.world.settle()
        return answer

    async def ask_and_turn(self, limit: int, turns: int) -> asyncio.Future[list[Pulled]]:
        answer = self.world.pump.pull(limit, patient=True)
        await self.world.turn(turns)
        return answer

    async def ask_and_leave(self, limit: int, turns: int) -> list[Pulled] | None:
        answer = await self.ask_and_turn(limit, turns)
        left = answer.cancel()
        await self.world.settle()
        return None if left else answer.result()

    async def call_and_turn(self, act: str, ids: list[str], turns: int) -> None:
        call = asyncio.ensure_future(getattr(self.pulls, act)(TOPIC, NAME, {"ack_ids": ids}))
        await self.world.turn(turns)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    def call(self, act: str, ids: list[str], **more: float | None) -> list[str]:
        async def calling() -> list[str]:
            told = await getattr(self.pulls, act)(TOPIC, NAME, {"ack_ids": ids, **more})
            await self.world.settle()
            return list(told)

        return self.run(calling())

    def say(self, act: str, chosen: list[Lease], **more: float | None) -> None:
        ids = [str(lease.id) for lease in chosen]
        assert self.call(act, [*ids, "no id"], **more) == ["settled"] * len(ids) + ["unknown"]

    def some_out(self, which: list[int]) -> list[Lease]:
        known = [lease for _, lease in sorted(self.out.items()) if lease.id is not None]
        return some_of(known, which)

    def take(self, limit: int) -> list[Pulled]:
        answer = self.run(self.ask(limit, patient=False))
        assert answer.done(), "who does not wait is not answered"
        pulled = answer.result()
        self.got(limit, pulled)
        return pulled

    def got(self, limit: int, pulled: list[Pulled]) -> None:
        """Hold what was handed out against what might have been."""
        ready = self.ready()
        seqs = [each.message.seq for each in pulled]
        assert seqs == sorted(set(seqs))
        assert len(seqs) <= (1 if self.ordering() == "topic" else limit)
        assert seqs or not self.in_order(ready), ("kept back", ready)
        for seq in set(seqs) - ready:
            assert seq <= self.ordered_since, (seq, ready)
            assert seq in self.owed.keys() - self.out.keys()
            assert self.due_at.get(seq, 0.0) <= self.home.clock()
        for each in pulled:
            seq = each.message.seq
            assert each.attempt == self.owed[seq] + 1
            self.check_order(seq)
            self.due_at.pop(seq, None)
            if self.world.subscription.guarantee == "at-most-once":
                assert each.claim is None
                self.finish(seq)
            else:
                assert each.claim is not None
                id_ = self.pulls.ack_id(TOPIC, NAME, each.claim)
                self.out[seq] = Lease(seq, self.home.clock() + ACK_DEADLINE_S, id_)

    def ready(self) -> set[int]:
        """Say what has its turn: of each lane the first that is owed, unless one is out."""
        if self.world.subscription.paused:
            return set()
        now = self.home.clock()
        taken = {self.lane(lease.seq) for lease in (*self.out.values(), *self.void)} - {None}
        found = set()
        for seq in sorted(self.owed):
            lane = self.lane(seq)
            if seq in self.out or lane in taken:
                continue
            if lane is not None:
                taken.add(lane)
            if self.due_at.get(seq, 0.0) <= now:
                found.add(seq)
        return found

    def in_order(self, seqs: set[int]) -> set[int]:
        """Leave out what stands in a lane with something of before the ordering was changed."""
        old = {self.lane(seq) for seq in (*self.owed, *self.out) if seq <= self.ordered_since} - {
            None
        }
        return {seq for seq in seqs if self.lane(seq) not in old}

    def finish(self, seq: int) -> None:
        self.end(seq)
        del self.owed[seq]
        self.finished.add(seq)

    def fail(self, seq: int, delay_s: float | None = None) -> None:
        self.end(seq)
        self.owed[seq] += 1
        attempts, most = self.owed[seq], self.world.subscription.retry.max_attempts
        if 0 < most <= attempts:
            del self.owed[seq]
            self.dead.add(seq)
            self.finished.add(seq)
        else:
            backoff_s = MIN_BACKOFF_S * 2 ** (attempts - 1)
            wait_s = min(backoff_s, MAX_BACKOFF_S) if delay_s is None else delay_s
            self.due_at[seq] = self.home.clock() + wait_s

    def end(self, seq: int) -> None:
        self.due_at.pop(seq, None)
        lease = self.out.pop(seq, None)
        if lease is not None and lease.id is not None:
            self.spent.append(lease.id)

    def let_pass(self, seconds: float) -> None:
        self.run(self.world.wait(seconds))
        now = self.home.clock()
        self.void = [lease for lease in self.void if lease.until > now]
        for seq in [lease.seq for lease in self.out.values() if lease.until <= now]:
            self.fail(seq)

    def crash(self) -> None:
        """Go on with what is durable: leases outlive it."""
        self.run(self.world.crash())
        self.run(self.world.settle())
        self.void.clear()
        before, out = dict(self.owed), dict(self.out)
        self.believe_the_file()
        assert self.owed.keys() <= before.keys() | self.dead, "settled and owed again"
        for seq, lease in out.items():
            if seq in self.owed and self.owed[seq] == before[seq]:
                assert seq in self.out, "a lease is lost"
                self.out[seq] = lease

    def believe_the_file(self) -> None:
        """Take over what became of what was cut off."""
        position, rows = self.world.durable()
        everything = range(1, self.last_seq + 1)
        self.dead = {seq for seq, row in rows.items() if row.state == "dead"}
        owed = {seq for seq in everything if seq > position or seq in rows} - self.dead
        self.finished |= self.dead | (self.owed.keys() - owed)
        self.owed = {seq: rows[seq].attempts if seq in rows else 0 for seq in sorted(owed)}
        self.due_at = {seq: row.due_at for seq, row in rows.items() if row.state == "retry"}
        for seq in set(self.out):
            if seq not in rows or rows[seq].state != "leased":
                self.end(seq)
                self.due_at |= (
                    {seq: rows[seq].due_at} if seq in rows and rows[seq].state == "retry" else {}
                )
        for seq, row in rows.items():
            if row.state == "leased" and isfinite(row.due_at) and seq not in self.out:
                self.out[seq] = Lease(seq, row.due_at, None)

    def ordering(self) -> str:
        return self.world.subscription.ordering

    def lane(self, seq: int) -> str | None:
        ordering = self.ordering()
        return self.world.keys[seq] if ordering == "key" else "" if ordering == "topic" else None

    # -- what must always hold -----------------------------------------------------------------

    def look(self) -> None:
        """Let things come to rest, and hold everything against the model."""
        self.run(self.world.settle())
        self.check_lanes()
        self.check_rows(*self.world.durable())

    def check_lanes(self) -> None:
        lanes = [
            self.lane(lease.seq)
            for lease in (*self.out.values(), *self.void)
            if lease.seq > self.ordered_since and self.lane(lease.seq) is not None
        ]
        assert len(lanes) == len(set(lanes)), "a key is out twice"

    def check_order(self, seq: int) -> None:
        """Every earlier one of its order is finished."""
        lane = self.lane(seq)
        if lane is None or seq <= self.ordered_since or seq in self.finished:
            return
        for earlier in range(self.ordered_since + 1, seq):
            assert self.lane(earlier) != lane or earlier in self.finished, (earlier, seq)

    def check_rows(self, position: int, rows: dict[int, Row]) -> None:
        for seq, attempts in self.owed.items():
            if seq in rows:
                assert (rows[seq].attempts, rows[seq].state != "dead") == (attempts, True), seq
            else:
                assert seq > position, "lost"
                assert attempts == 0, "its attempts are lost"
        assert rows.keys() <= self.owed.keys() | self.dead
        assert {seq for seq, row in rows.items() if row.state == "dead"} == self.dead
        leased = {
            seq: row.due_at
            for seq, row in rows.items()
            if row.state == "leased" and isfinite(row.due_at)
        }
        known = {seq: lease.until for seq, lease in self.out.items()}
        assert leased == known, (leased, known)
        assert self.run(self.world.stats()).backlog == len(self.owed)

    def teardown(self) -> None:
        """In the end a puller that acks everything has had everything that is not dead."""
        try:
            if hasattr(self, "world"):
                self.run(self.world.configure(paused=False))
                self.look()
                idle = 0
                while self.owed:
                    pulled = self.take(5)
                    if self.world.subscription.guarantee != "at-most-once" and pulled:
                        chosen = [self.out[each.message.seq] for each in pulled]
                        self.say("ack", chosen)
                        for lease in chosen:
                            self.finish(lease.seq)
                    # Once for the leases to lapse, once for what lapsed to be due again.
                    idle = 0 if pulled else idle + 1
                    assert idle <= 2, ("kept back for good", self.owed)
                    self.let_pass(0.0 if pulled else LONGER_THAN_ANYTHING_S)
                    self.look()
                self.run(self.world.stop())
        finally:
            self.closing.close()


TestPull = PullMachine.TestCase
TestPull.settings = settings(
    settings.default,
    max_examples=settings().max_examples * 2 // 5,
    stateful_step_count=30,
    deadline=None,
)
