"""The pump against anything in any order: what Hypothesis finds, within what must always hold."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from broker.dispatch.interventions import Interventions
from broker.dispatch.pump import SLOW_S
from broker.subscription import RetryPolicy
from contract.homes import SqliteHome
from unit.pump_world import SUBSCRIPTION, PumpWorld, Request, Row

KEYS = st.lists(st.sampled_from(["a", "a", "a", "b", None]), min_size=1, max_size=8)
MAX_ATTEMPTS = 3
OVERLOADED_S = 15
T = TypeVar("T")

CONFIGURATIONS = st.fixed_dictionaries(
    {},
    optional={
        "ordering": st.sampled_from(["key", "key", "topic", "none"]),
        "format": st.sampled_from(["batch", "batch", "binary"]),
        "paused": st.sampled_from([False, False, True]),
        "consent": st.sampled_from(["off", "off", "if-supported", "required"]),
        "endpoint": st.sampled_from(["http://a.example/hook", "http://b.example/hook"]),
        "max_batch": st.integers(1, 4),
        "max_in_flight": st.integers(1, 4),
        "retry": st.sampled_from([0, MAX_ATTEMPTS]).map(
            lambda most: RetryPolicy(most, min_backoff_s=10, max_backoff_s=1000)
        ),
    },
)


class PumpMachine(RuleBasedStateMachine):
    """A model of what is owed, dead or done; the file and the requests are held against it.

    `finished` are those that an endpoint took or that became dead letters in any life: order is
    counted on first deliveries, so that a crash may bring them again at any time; a seek begins
    anew. Order is asked for of what was published since the ordering was last changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        patch = self.patch = self.closing.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("broker.store.sqlite.shard.WINDOW", 6)
        patch.setattr("broker.dispatch.intake.PAGE", 2)
        patch.setattr("broker.dispatch.lanes.PARKED_KEPT", 1)
        patch.setattr("broker.store.sqlite.batches.BATCH_ROWS", 2)
        patch.setattr("broker.store.sqlite.batches.READ_ROWS", 1)
        folder = self.closing.enter_context(tempfile.TemporaryDirectory())
        self.runner = self.closing.enter_context(asyncio.Runner())
        self.home = SqliteHome(Path(folder))
        self.owed: dict[int, int] = {}  # the attempts of each that have ended
        self.dead: set[int] = set()
        self.dropped: set[int] = set()  # dead letters that were deleted
        self.finished: set[int] = set()
        self.last_seq = 0
        self.ordered_since = 0
        self.held_until = 0.0
        self.seen = 0
        self.formats: dict[int, str] = {}  # of each request that is out, by its job
        self.void: set[int] = set()  # jobs that were out at a seek

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    # -- what happens --------------------------------------------------------------------------

    @initialize(configuration=CONFIGURATIONS, bytes_=st.sampled_from([None, 1, 23, 80]))
    def start(self, configuration: dict[str, Any], bytes_: int | None) -> None:
        """A message has 22 bytes: a page has one, two or four of them, and so has the memory."""
        self.world = PumpWorld(self.home, replace(SUBSCRIPTION, **configuration))
        if bytes_ is not None:
            self.world.most_bytes = bytes_
            for place in ("store.sqlite.log", "store.sqlite.shard", "dispatch.intake"):
                self.patch.setattr(f"broker.{place}.PAGE_BYTES", bytes_)
        self.run(self.world.start())
        self.look()

    @rule(keys=KEYS)
    def publish(self, keys: list[str | None]) -> None:
        self.store(keys)
        self.look()

    @precondition(lambda self: self.world.courier.out)
    @rule(data=st.data(), count=st.integers(1, 6))
    def take(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            if self.world.courier.out:
                self.answer(self.any_request(data), 200)

    @precondition(lambda self: self.world.courier.out)
    @rule(data=st.data(), status=st.sampled_from([0, 500, 422]))
    def fail(self, data: st.DataObject, status: int) -> None:
        self.answer(self.any_request(data), status)

    @precondition(lambda self: self.world.courier.out)
    @rule(data=st.data())
    def overload(self, data: st.DataObject) -> None:
        request = self.any_request(data)
        if request.job not in self.void:
            self.held_until = self.home.clock() + OVERLOADED_S
        self.answer(request, 503, **{"retry-after": str(OVERLOADED_S)})

    @precondition(lambda self: self.world.courier.out)
    @rule(data=st.data())
    def single_out(self, data: st.DataObject) -> None:
        request = self.any_request(data)
        positions = st.lists(st.integers(0, len(request.seqs) - 1), max_size=2)
        answer = {"retry": data.draw(positions), "dead_letter": data.draw(positions)}
        self.answer(request, 200, msgspec.json.encode(answer))

    @precondition(lambda self: self.world.courier.out)
    @rule(data=st.data(), status=st.sampled_from([200, 500, 422]), turns=st.integers(0, 12))
    def answer_and_crash(self, data: st.DataObject, status: int, turns: int) -> None:
        request = self.any_request(data)
        unsure = set() if request.job in self.void else set(request.seqs)
        self.finished.update(seq for seq in unsure if self.ends(seq, status))
        self.run(self.world.hear(request.job, status))
        self.run(self.world.turn(turns))
        self.check_requests()
        self.crash(unsure=unsure)

    @precondition(lambda self: self.world.courier.questions)
    @rule(
        status=st.sampled_from([0, 200, 405, 503]),
        headers=st.sampled_from(
            [{}, {"origin": "*"}, {"origin": "x"}, {"origin": "*", "rate": "6"}]
        ),
    )
    def consent(self, status: int, headers: dict[str, str]) -> None:
        self.run(self.world.consent(status, **headers))
        self.look()

    @rule()
    def crash_at_rest(self) -> None:
        self.crash(unsure=set())

    @rule(meanwhile=KEYS, configuration=CONFIGURATIONS)
    def lose_courier(self, meanwhile: list[str | None], configuration: dict[str, Any]) -> None:
        """Another takes its place; messages came in between, and perhaps a configuration."""
        self.world.courier.up = False
        self.store(meanwhile)
        self.configure(configuration)
        self.world.courier.up = True
        self.world.lose()
        self.run(self.world.wait(0))
        self.look()

    @rule(seconds=st.sampled_from([SLOW_S, 10.0, 40.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.world.wait(seconds))
        self.look()

    @rule(configuration=CONFIGURATIONS)
    def configure(self, configuration: dict[str, Any]) -> None:
        if configuration.get("ordering", self.ordering()) != self.ordering():
            self.ordered_since = self.last_seq
        if configuration.get("endpoint", self.endpoint()) != self.endpoint():
            self.held_until = 0.0
        self.run(self.world.configure(**configuration))
        self.look()

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        dead = sorted(self.dead)
        chosen = data.draw(st.none() | st.lists(st.sampled_from(dead), min_size=1, unique=True))
        owed = dead if chosen is None else chosen
        assert self.run(self.world.perform(lambda acts: acts.replay(chosen))) == len(owed)
        self.owe_again(owed)
        self.look()

    @precondition(lambda self: self.dead and self.world.courier.out)
    @rule(data=st.data(), status=st.sampled_from([200, 500, 422]), turns=st.integers(0, 12))
    def answer_while_replaying(self, data: st.DataObject, status: int, turns: int) -> None:
        dead = sorted(self.dead)
        replaying = self.begin(lambda acts: acts.replay(None), turns)
        self.owe_again(dead)
        self.answer(self.any_request(data), status, meanwhile=replaying)
        assert replaying.result() == len(dead)

    @precondition(lambda self: self.dead)
    @rule(turns=st.integers(0, 20))
    def crash_while_replaying(self, turns: int) -> None:
        """Each dead letter is dead still, or owed."""
        dead = sorted(self.dead)
        replaying = self.begin(lambda acts: acts.replay(None), turns)
        self.owe_again(dead)
        self.check_requests()
        self.crash(unsure=set(dead))
        self.run(ended(replaying))

    @precondition(lambda self: self.dead)
    @rule(data=st.data(), crash=st.booleans())
    def drop_dead(self, data: st.DataObject, crash: bool) -> None:
        seq = data.draw(st.sampled_from(sorted(self.dead)))
        assert self.run(self.world.perform(lambda acts: acts.drop_dead(seq)))
        self.dead.remove(seq)
        self.dropped.add(seq)
        if crash:
            self.crash(unsure=set())
        self.look()

    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, self.last_seq))
        self.void.update(self.world.courier.out)
        self.begin_again(position)
        self.run(self.world.perform(lambda acts: acts.seek(position)))
        self.look()

    @rule(data=st.data(), turns=st.integers(0, 20))
    def crash_while_seeking(self, data: st.DataObject, turns: int) -> None:
        """Either it has not begun, or it is whole."""
        position = data.draw(st.integers(0, self.last_seq))
        generation = self.world.shard.generation
        seeking = self.begin(lambda acts: acts.seek(position), turns)
        self.run(self.world.crash())
        if self.world.shard.generation != generation:
            self.begin_again(position)
        self.take_over(unsure=set())
        self.run(ended(seeking))

    # -- parts ---------------------------------------------------------------------------------

    def begin(self, act: Callable[[Interventions], Awaitable[T]], turns: int) -> asyncio.Task[T]:
        """Have the pump do something, and come so many turns of the loop far with it."""

        async def begun() -> asyncio.Task[T]:
            acts = self.world.pump.interventions
            acting = asyncio.ensure_future(self.world.pump.perform(lambda: act(acts)))
            await self.world.turn(turns)
            return acting

        return self.run(begun())

    def owe_again(self, dead: Iterable[int]) -> None:
        self.dead.difference_update(dead)
        self.owed.update(dict.fromkeys(dead, 0))

    def begin_again(self, position: int) -> None:
        """Everything above is owed as at first, and nothing below but dead letters is kept."""
        self.owed = dict.fromkeys(range(position + 1, self.last_seq + 1), 0)
        self.dead = {seq for seq in self.dead if seq <= position}
        self.dropped = {seq for seq in self.dropped if seq <= position}
        self.finished = set(range(1, position + 1))

    def ends(self, seq: int, status: int) -> bool:
        """Say whether an answer may be the end of a message, though perhaps not a durable one."""
        most = self.world.subscription.retry.max_attempts
        return status in {200, 422} or 0 < most <= self.owed[seq] + 1

    def store(self, keys: list[str | None]) -> None:
        for seq in self.run(self.world.publish(*keys)):
            self.owed[seq] = 0
            self.last_seq = seq

    def ordering(self) -> str:
        return self.world.subscription.ordering

    def endpoint(self) -> str | None:
        return self.world.subscription.endpoint

    def any_request(self, data: st.DataObject) -> Request:
        return data.draw(st.sampled_from(list(self.world.courier.out.values())))

    def answer(
        self,
        request: Request,
        status: int,
        body: bytes = b"",
        meanwhile: asyncio.Future[Any] | None = None,
        **headers: str,
    ) -> None:
        """Answer, and see that of each message became what the answer and the policy say."""
        if request.job in self.void:
            self.run(self.world.hear(request.job, status, body, **headers))
            self.run(ended(meanwhile))
            self.look()
            return
        batch = self.formats[request.job] == "batch"
        asked = msgspec.json.decode(body) if body and batch else {}
        policy = self.world.subscription.retry
        self.run(self.world.hear(request.job, status, body, **headers))
        self.run(ended(meanwhile))
        self.run(self.world.settle())
        _, rows = self.world.durable()
        stopped = False
        for position, seq in enumerate(request.seqs):
            row = rows.get(seq)
            attempts = self.owed[seq] + 1
            exhausted = 0 < policy.max_attempts <= attempts
            if status == 422:
                allowed = {"dead"}
            elif status != 200 or position in asked.get("retry", ()):
                allowed = {"dead", "owed"} if exhausted and stopped else {"owed"}
                if exhausted and not stopped:
                    allowed = {"dead"}
            else:
                allowed = {"dead"} if position in asked.get("dead_letter", ()) else {"done"}
                if stopped:
                    allowed |= {"owed"}
                    if exhausted:
                        allowed |= {"dead"}
            became = "done" if row is None else "dead" if row.state == "dead" else "owed"
            assert became in allowed, (seq, became, allowed)
            stopped |= became == "owed"
            if became == "owed":
                self.owed[seq] = attempts
            else:
                del self.owed[seq]
                self.check_order(seq)
                self.finished.add(seq)
                if became == "dead":
                    self.dead.add(seq)
        self.look()

    def crash(self, unsure: set[int]) -> None:
        """Go on with what is durable, which must be all that was owed before but for `unsure`."""
        self.run(self.world.crash())
        self.take_over(unsure)

    def take_over(self, unsure: set[int]) -> None:
        self.seen = 0
        self.void = set()
        position, rows = self.world.durable()
        dead = {seq for seq, row in rows.items() if row.state == "dead"}
        everything = set(range(1, self.last_seq + 1))
        owed = {seq for seq in everything if seq > position or seq in rows} - dead
        assert self.owed.keys() - unsure <= owed
        assert self.dead <= dead <= self.dead | unsure
        again = owed - self.owed.keys() - unsure
        assert all(seq > position for seq in again)
        self.owed = {seq: rows[seq].attempts if seq in rows else 0 for seq in sorted(owed)}
        self.dead = dead
        self.finished |= dead
        self.look()

    # -- what must always hold -----------------------------------------------------------------

    def look(self) -> None:
        """Let things come to rest, and hold everything against the model."""
        self.run(self.world.settle())
        self.check_requests()
        position, rows = self.world.durable()
        self.check_rows(position, rows)
        self.check_rest(rows)
        counted = self.world.shard.outstanding_bytes(), self.world.pump._ledger.bytes_in_memory
        assert counted == self.world.bytes_in_memory()

    def check_requests(self) -> None:
        courier, subscription = self.world.courier, self.world.subscription
        new, self.seen = courier.sent[self.seen :], len(courier.sent)
        if new:
            assert len(courier.out) <= subscription.max_in_flight
            agreement = subscription.agreement
            agreed = agreement is not None and agreement.endpoint == subscription.endpoint
            assert agreed or subscription.consent == "off", "sent without consent"
        for request in new:
            batch = subscription.format == "batch"
            self.formats[request.job] = subscription.format
            assert 1 <= len(request.seqs) <= (subscription.max_batch if batch else 1)
            assert request.attempt == self.owed.get(request.seqs[0], 0) + 1
            for place, seq in enumerate(request.seqs):
                assert seq not in self.dead | self.dropped
                self.check_order(seq, before=request.seqs[:place])
        valid = [request for job, request in courier.out.items() if job not in self.void]
        out = [seq for request in valid for seq in request.seqs]
        assert len(out) == len(set(out)), "a message in two requests"
        if self.ordering() != "none":
            lanes = [
                {self.lane(seq) for seq in request.seqs if seq > self.ordered_since} - {None}
                for request in courier.out.values()
            ]
            assert sum(map(len, lanes)) == len(set[Any]().union(*lanes)), "a key in two requests"

    def check_order(self, seq: int, before: tuple[int, ...] = ()) -> None:
        """Every earlier one of its order is finished, or stands before it in the same request."""
        lane = self.lane(seq)
        if lane is None or seq <= self.ordered_since or seq in self.finished:
            return
        for earlier in range(self.ordered_since + 1, seq):
            if self.lane(earlier) == lane:
                assert earlier in self.finished or earlier in before, (earlier, seq)

    def lane(self, seq: int) -> str | None:
        ordering = self.ordering()
        return self.world.keys[seq] if ordering == "key" else "" if ordering == "topic" else None

    def check_rows(self, position: int, rows: dict[int, Row]) -> None:
        for seq, attempts in self.owed.items():
            if seq in rows:
                assert (rows[seq].attempts, rows[seq].state != "dead") == (attempts, True), seq
            else:
                assert seq > position, "lost"
                assert attempts == 0, "its attempts are lost"
        assert rows.keys() <= self.owed.keys() | self.dead
        assert {seq for seq, row in rows.items() if row.state == "dead"} == self.dead
        assert self.run(self.world.stats()).backlog == len(self.owed)

    def check_rest(self, rows: dict[int, Row]) -> None:
        """Where nothing is out and something is owed, it waits for a time or for permission."""
        if not self.owed or self.world.courier.out or not self.world.courier.up:
            return
        now, subscription = self.home.clock(), self.world.subscription
        waits = [row.due_at for row in rows.values() if row.state == "retry" and row.due_at > now]
        asks = self.world.pump.consent_state in {"awaited", "refused"}
        limited = subscription.agreement is not None and subscription.agreement.allowed_rate
        assert waits or asks or limited or subscription.paused or self.held_until > now, (
            "it has come to a stop"
        )

    def teardown(self) -> None:
        """In the end an endpoint that takes everything has got everything that is not dead."""
        try:
            if hasattr(self, "world"):
                self.world.courier.up = True
                self.world.lose()
                self.run(self.world.configure(paused=False))
                self.look()
                while self.owed:
                    while self.world.courier.questions:
                        self.consent(200, {"origin": "*"})
                    for request in list(self.world.courier.out.values()):
                        self.answer(request, 200)
                    self.wait(2000.0)
                self.run(self.world.stop())
        finally:
            self.closing.close()


async def ended(act: asyncio.Future[Any] | None) -> None:
    """Wait for the end of an act, good or bad, if there is one."""
    if act is not None:
        await asyncio.wait((act,))
        act.exception()


TestPump = PumpMachine.TestCase
TestPump.settings = settings(
    settings.default,
    max_examples=settings().max_examples * 2 // 5,
    stateful_step_count=30,
    deadline=None,
)
