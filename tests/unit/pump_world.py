"""A pump on a real store, with a courier that does what a test tells it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import pytest

from broker.consent import Agreement
from broker.dispatch.courier_line import Sender
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Endpoint, Outcome
from broker.dispatch.interventions import Interventions
from broker.dispatch.memory import MOST_BYTES
from broker.dispatch.pump import Pump
from broker.filters.dialects import Filter
from broker.model import Message, NewMessage, size_of
from broker.store.port import Shard, ShardStats, Store
from broker.subscription import RetryPolicy, Subscription
from broker.topic import Topic
from contract.homes import SqliteHome
from support.signature import new_secret

TOPIC, NAME = "orders", "mail"
SUBSCRIPTION = Subscription(
    TOPIC,
    NAME,
    new_secret(),
    endpoint="http://a.example/hook",
    retry=RetryPolicy(max_attempts=0, min_backoff_s=10, max_backoff_s=1000),
)
POLL_S = 0.2
QUIET_ROUNDS = 3
MOST_ROUNDS = 200
T = TypeVar("T")


def with_fields(**fields: Any) -> pytest.MarkDecorator:
    """Have the test's `world` pump for a subscription with these fields."""
    return pytest.mark.parametrize("world", [fields], indirect=True, ids=[""])


@dataclass(frozen=True)
class Request:
    """A request that is out: its job, the attempt it says it is, and what is in it."""

    job: int
    attempt: int
    seqs: tuple[int, ...]


class Row(NamedTuple):
    """A row of the store, as far as tests look at it."""

    state: str
    attempts: int
    due_at: float


class ScriptedCourier:
    """Takes jobs as the couriers do; a test says how each ends.

    While it is not up it takes them too, and nobody gets them: they are lost with the others.
    """

    def __init__(self) -> None:
        self.up = True
        self.sent: list[Request] = []
        self.sent_to: list[str] = []
        self.out: dict[int, Request] = {}
        self.endpoint: Endpoint | None = None
        self.questions: dict[int, list[str]] = {}
        self.asked = 0
        self._last_job = 0

    def reaches(self, _: int) -> bool:
        return self.up

    def set_endpoint(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def forget_endpoint(self, id_: int) -> None:
        self.endpoint = None

    def send(
        self,
        sender: Sender,
        endpoint: int,
        requests: Sequence[tuple[int, list[Message], list[str]]],
    ) -> list[int]:
        jobs = []
        for attempt, messages, _ in requests:
            assert messages, "a request without a message"
            self._last_job += 1
            request = Request(self._last_job, attempt, tuple(each.seq for each in messages))
            if self.up:
                assert self.endpoint is not None
                self.sent.append(request)
                self.sent_to.append(self.endpoint.url)
            self.out[request.job] = request
            jobs.append(request.job)
        return jobs

    def ask(self, sender: Sender, endpoint: int, headers: list[str]) -> int:
        self._last_job += 1
        self.questions[self._last_job] = headers
        self.asked += 1
        return self._last_job


class PumpWorld:
    """One subscription of one topic: its pump, store and courier, over several lives.

    Time stands still but for `wait`. `random` draws are always the ceiling, so that a delivery that
    has failed n times is due 10 * 2^(n-1) seconds later.
    """

    def __init__(self, home: SqliteHome, subscription: Subscription = SUBSCRIPTION) -> None:
        self.home = home
        self.subscription = subscription
        self.courier = ScriptedCourier()
        self.store: Store
        self.pump: Pump
        self.shard: Shard
        self.keys: dict[int, str | None] = {}
        self.reached = 0
        self.most_bytes = MOST_BYTES
        self.remembered: list[Agreement] = []
        self._task: asyncio.Task[None]

    async def start(self) -> None:
        """Create the subscription and begin to pump."""
        self.store = await self.home.open()
        await self.store.create_topic(TOPIC, Topic(TOPIC).to_document())
        document = self.subscription.to_document()
        await self.store.create_subscription(TOPIC, NAME, document, start=1)
        await self._pump()

    async def _pump(self) -> None:
        self.courier = ScriptedCourier()
        self.shard = await anext(self.store.claim())
        self.pump = Pump(
            self.shard,
            self.subscription,
            cast(Couriers, self.courier),
            "msg_",
            random=lambda: 1.0,
            now=self.home.clock,
            monotonic=self.home.clock,
            most_bytes=lambda: self.most_bytes,
            remember=self._remember,
            origin="shop.example",
        )
        self._task = asyncio.get_running_loop().create_task(self.pump.run(), name="pump")

    def _remember(self, _: Subscription, agreement: Agreement) -> None:
        self.remembered.append(agreement)
        self.subscription = replace(self.subscription, agreement=agreement)

    async def crash(self) -> None:
        """Kill everything now; go on with what is durable."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.store = await self.home.crash()
        await self._pump()

    async def stop(self) -> None:
        """End well."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.home.close()

    async def publish(
        self, *keys: str | None, type_: str = "t", data: bytes | None = None
    ) -> list[int]:
        """Store a message for each key; return their sequences."""
        attributes = msgspec.json.encode({"id": "id", "type": type_})
        messages = [NewMessage("id", "/s", key, attributes, data, None) for key in keys]
        appended = await self.store.append(TOPIC, messages)
        seqs = [each.sequence for each in appended if each.sequence is not None]
        self.keys.update(zip(seqs, keys, strict=True))
        return seqs

    async def turn(self, turns: int) -> None:
        """Let the event loop turn so many times."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let everything go on until nothing moves."""
        quiet = 0
        for _ in range(MOST_ROUNDS):
            before = (len(self.courier.sent), self.shard.bell.is_set())
            await self.store.put_document("barrier", {}, None)
            await self.turn(5)
            assert not self._task.done(), self._task.result()
            now = (len(self.courier.sent), self.shard.bell.is_set())
            waits = bool(self.shard.bell._waiters)  # type: ignore[attr-defined]
            quiet = quiet + 1 if now == before and waits and not now[1] else 0
            if quiet == QUIET_ROUNDS:
                return
        raise AssertionError("the pump does not come to rest")

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.home.clock.now += seconds
        self.shard.bell.set()  # the pump's timer runs on another clock
        await self.settle()

    async def poll(self) -> None:
        """Give the pump the real time in which it looks by itself."""
        await asyncio.sleep(POLL_S * 2)
        await self.settle()

    async def ended(self) -> None:
        """Wait until the pump has come to its end by itself."""
        await asyncio.wait_for(self._task, timeout=5)

    def out(self) -> list[tuple[int, ...]]:
        """The sequences in each request that is out."""
        return [request.seqs for request in self.courier.out.values()]

    def end(self, job: int, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Have a request answered; status 0 is no answer."""
        self.courier.out.pop(job)
        error = "" if status else "the endpoint refused the connection"
        self.pump.ended([Outcome(job, status, error, 1, headers or None, body)])

    async def hear(self, job: int, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Have a request answered within the event loop, as the couriers do."""
        self.end(job, status, body, **headers)

    def lose(self) -> None:
        """End the courier, unless it has ended; another is in its place."""
        self.courier.up = True
        lost, self.courier.out = self.courier.out, {}
        for job in lost:
            self.pump.lost(job)
        unanswered, self.courier.questions = self.courier.questions, {}
        for job in unanswered:
            self.pump.asking.lost(job)

    async def consent(self, status: int = 200, **headers: str) -> None:
        """Have the endpoint answer the question that was put to it first; status 0 is no answer."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        said = {n if n == "retry-after" else f"webhook-allowed-{n}": v for n, v in said.items()}
        job = min(self.courier.questions)
        del self.courier.questions[job]
        error = "" if status else "the endpoint refused the connection"
        self.pump.asking.ended([Outcome(job, status, error, 1, said or None)])
        await self.settle()

    async def answer(self, seq: int, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Have the request with this message answered, and let things settle."""
        (job,) = [job for job, request in self.courier.out.items() if seq in request.seqs]
        self.end(job, status, body, **headers)
        await self.settle()

    async def configure(self, **changes: Any) -> None:
        """Change the subscription."""
        self.subscription = replace(self.subscription, **changes)
        self.pump.configure(self.subscription)
        await self.settle()

    async def refilter(self, *filters: Filter) -> None:
        """Change the filters as the service does; `reached` is up to where the old ones counted."""
        subscription = replace(self.subscription, filters=filters)

        async def write() -> None:
            self.reached = self.shard.fetched
            key = f"subscription/{TOPIC}/{NAME}"
            await self.store.put_document(key, subscription.to_document(), None)
            self.subscription = subscription
            self.pump.configure(subscription)

        await self.pump.perform(lambda: self.pump.interventions.with_position(write))

    async def perform(self, act: Callable[[Interventions], Awaitable[T]]) -> T:
        """Have the pump do something between two turns, and let things settle."""
        done = await self.pump.perform(lambda: act(self.pump.interventions))
        await self.settle()
        return done

    def bytes_in_memory(self) -> tuple[int, int]:
        """Sum up what is in memory and owed: of messages without a row, and with one."""
        memory, sizes = self.pump._memory, [0, 0]
        waiting = [each for lane in memory.lanes._lanes.values() for each in lane.waiting]
        sent = [each for sent in self.pump.sent() if not sent.settled for each in sent.deliveries]
        for delivery in (*memory.ready, *waiting, *sent):
            sizes[delivery.row is not None] += size_of(delivery.message)
        return sizes[0], sizes[1]

    async def stats(self) -> ShardStats:
        """Tell how far the subscription is."""
        return await self.store.shard_stats(TOPIC, NAME)

    def durable(self) -> tuple[int, dict[int, Row]]:
        """Read the position and the rows from the file."""
        with closing(sqlite3.connect(f"file:{self.home.path}?mode=ro", uri=True)) as file:
            (position,) = file.execute("SELECT position FROM subscription").fetchone()
            rows = file.execute("SELECT seq, state, attempts, due_at FROM exception").fetchall()
        return position, {seq: Row(*row) for seq, *row in rows}

    async def drain(self) -> list[int]:
        """Answer 200 to everything until nothing is owed; return the sequences in sending order."""
        before = len(self.courier.sent)
        for _ in range(100):
            await self.settle()
            for job in list(self.courier.out):
                self.end(job)
            await self.wait(10_000)
            if not self.courier.out and (await self.stats()).backlog == 0:
                return [seq for request in self.courier.sent[before:] for seq in request.seqs]
        raise AssertionError(f"owed and not sent: {await self.stats()}")
