"""Publishes that are answered without a task: as those that the application answers by ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker.api.asgi import Front
from broker.api.publish import Answer, created
from broker.api.under_way import UnderWay
from broker.auth import ApiKey, Keys, digest_of
from broker.cli import protocol
from broker.cloudevents import BATCH, STRUCTURED
from broker.config import Settings
from broker.hosts import AllowedHosts
from broker.model import Appended, NewMessage
from broker.scopes import Scope
from broker.service import Broker
from broker.sessions import Sessions
from broker.store.port import Unavailable, Waiter
from contract.homes import SqliteHome
from support.eventually import eventually
from unit.fake_worker import Event, Receive, Send, listening, worker_with

pytestmark = pytest.mark.anyio

KEY, PACED, READER = "brk_publisher", "brk_paced", "brk_reader"
_DIFFERS = re.compile(rb"\r\nDate: [^\r]+|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run on the loop that the broker runs on."""
    return "asyncio", {"use_uvloop": True}


class Served:
    """A broker that delivers nothing, behind a front door."""

    def __init__(self, broker: Broker, keys: Keys, most: int) -> None:
        self.broker = broker
        self.under_way = UnderWay(most)
        hosts = AllowedHosts()
        self.front = Front(self, control, keys, Sessions(keys), self.under_way, hosts=hosts)

    async def start(self) -> Broker:
        return self.broker

    async def standing_by(self) -> None:
        await asyncio.Event().wait()

    def fail(self, error: Exception) -> None:
        raise error

    async def stop(self) -> None:
        pass

    def counts(self) -> tuple[Any, ...]:
        """Give all that a publish counts, and that what is under way has come back to nothing."""
        assert self.front._served is not None
        assert self.front._served.under_way == self.under_way.bytes == 0
        assert self.broker._room._writing == 0
        return dict(self.broker.refused), self.broker._published, self.broker._repeated


def home_in(folder: Path) -> SqliteHome:
    folder.mkdir(exist_ok=True)
    return SqliteHome(folder)


def control(_: Broker) -> Any:
    async def unused(scope: Event, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    return unused


@contextlib.asynccontextmanager
async def serving(
    folder: Path, keys: Keys | None = None, most: int = 1 << 20
) -> AsyncIterator[Served]:
    home = home_in(folder)
    keys = keys if keys is not None else Keys(None, on=False)
    settings = Settings(min_free_bytes=0, max_message_bytes=1000, max_batch_bytes=2000)
    broker = Broker(await home.open(), settings, keys)
    await broker.put_topic("order", {})
    await broker.put_topic("strict", {"schema": {"type": "object", "required": ["a"]}})
    served = Served(broker, keys, most)
    events: asyncio.Queue[Event] = asyncio.Queue()
    said: asyncio.Queue[Event] = asyncio.Queue()
    living = asyncio.create_task(_live(served.front, events, said))
    await events.put({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    try:
        yield served
    finally:
        await events.put({"type": "lifespan.shutdown"})
        await living
        await home.close()


async def _live(front: Front, events: asyncio.Queue[Event], said: asyncio.Queue[Event]) -> None:
    await front({"type": "lifespan"}, events.get, said.put)


def request(body: bytes, *headers: str, topic: str = "order", host: str = "127.0.0.1") -> bytes:
    lines = [
        f"POST /v1/topics/{topic}/messages HTTP/1.1",
        f"Host: {host}",
        *headers,
        "X-Request-Id: asked",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def as_(key: str) -> str:
    return f"Authorization: Bearer {key}"


def structured(**more: object) -> bytes:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}
    return json.dumps(event | more).encode()


STRUCTURED_TYPE, BATCH_TYPE = f"Content-Type: {STRUCTURED}", f"Content-Type: {BATCH}"
LATER = "2999-01-01T00:00:00Z"
REQUESTS = {
    "data": request(b"{}", "Content-Type: application/json"),
    "data without a type": request(b"\x00"),
    "an event in headers": request(b"1", "ce-id: 7", "ce-source: /a b".replace(" ", "%20")),
    "a repeat": request(b"{}", 'Idempotency-Key: "k"') * 2,
    "an id that is used anew": request(b"1", "Idempotency-Key: k")
    + request(b"2", "Idempotency-Key: k"),
    "a structured event": request(structured(), STRUCTURED_TYPE),
    "one for later": request(structured(deliverat=LATER), STRUCTURED_TYPE),
    "a batch": request(b"[%s]" % structured(), BATCH_TYPE),
    "a batch with a key": request(b"[]", BATCH_TYPE, "Idempotency-Key: k"),
    "a batch that is too large": request(b"[%s]" % (b" " * 2000), BATCH_TYPE),
    "data that is too large": request(b"x" * 1001),
    "a wrong key": request(b"{}", "Idempotency-Key: \xe9"),
    "a wrong attribute": request(b"{}", "ce-a-b: 1"),
    "a format that is not read": request(b"{}", "Content-Type: application/cloudevents+xml"),
    "no JSON": request(b"{", STRUCTURED_TYPE),
    "what fits the schema": request(structured(), STRUCTURED_TYPE, topic="strict"),
    "what does not": request(b"{}", "Content-Type: application/json", topic="strict"),
    "a topic that is not there yet": request(b"{}", topic="new"),
    "no name of a topic": request(b"{}", topic="."),
    "another host": request(b"{}", host="evil.example"),
    "the page of another host": request(b"{}", "Accept-Language: en", host="evil.example"),
}
KEYED = {
    "no key": request(b"{}"),
    "a key": request(b"{}", as_(KEY)),
    "a key that is not known": request(b"{}", as_("brk_other")),
    "a key for something else": request(b"{}", as_(READER)),
    "too many of one key": request(b"{}", as_(PACED)) * 4,
}


def keys_of_three() -> Keys:
    keys = Keys(None, on=True)
    publishes, reads = (Scope("publish", "*"),), (Scope("read", "*"),)
    keys.use(
        [
            ApiKey("1", "publisher", publishes, digest_of(KEY), 0.0),
            ApiKey("2", "paced", publishes, digest_of(PACED), 0.0, publish_rate=1.0),
            ApiKey("3", "reader", reads, digest_of(READER), 0.0),
        ]
    )
    return keys


async def answers_to(served: Served, stream: bytes) -> bytes:
    """Send requests, and give what is answered until the connection is closed."""
    worker = worker_with(served.front)
    async with listening(worker) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(stream + request(b"the end", "Connection: close", as_(KEY)))
            answers = await asyncio.wait_for(reader.read(), 20)
        await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)
    return _DIFFERS.sub(b"", answers)


@pytest.mark.parametrize("kind", [*REQUESTS, *KEYED])
async def test_publish_is_answered_and_counted_as_by_asgi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    told = []
    for way in ("begun", "asgi"):
        with monkeypatch.context() as patch:
            if way == "asgi":
                patch.setattr(Front, "begin", lambda *_: None)
            keys = keys_of_three() if kind in KEYED else None
            async with serving(tmp_path / way, keys) as served:
                stream = REQUESTS.get(kind) or KEYED[kind]
                told.append((await answers_to(served, stream), served.counts()))
    assert told[0] == told[1]
    assert b" 201 Created\r\n" in told[0][0]


async def test_plain_publish_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without this the others would compare one way with itself."""
    begin, begun = Front.begin, []

    def noted(*arguments: Any) -> Any:
        begun.append(begin(*arguments))
        return begun[-1]

    monkeypatch.setattr(Front, "begin", noted)
    expected = {**dict.fromkeys(REQUESTS, True), "no name of a topic": False}
    expected |= {"a topic that is not there yet": False, "the page of another host": False}
    for kind, stream in REQUESTS.items():
        begun.clear()
        async with serving(tmp_path / kind.replace(" ", "-")) as served:
            await answers_to(served, stream)
        assert (begun[0] is not None) is expected[kind], kind


async def test_publishes_sent_ahead_are_answered_in_order_however_many(tmp_path: Path) -> None:
    """Each answer begins the next request: were it at once, the stack would not be deep enough."""
    async with serving(tmp_path) as served:
        wrong, right = REQUESTS["a wrong attribute"], REQUESTS["data"]
        answers = await answers_to(served, wrong * 3000 + right * 10)
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"422"] * 3000 + [b"201"] * 11
        served.counts()


async def test_publish_beyond_what_may_be_in_memory_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, most=8) as served:
        answers = await answers_to(served, request(b"123456789"))
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"429", b"201"]
        refused, *_ = served.counts()
        assert refused["overloaded"] == 1


async def test_what_a_failed_commit_leaves_open_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with serving(tmp_path) as served:
        held: list[Waiter] = []

        def hold(topic: str, messages: Sequence[NewMessage], waiter: Waiter) -> Sequence[Appended]:
            held.append(waiter)
            return [Appended(messages[0].id, 1, duplicate=False)]

        monkeypatch.setattr(served.broker._store, "append_soon", hold)
        answering = asyncio.create_task(answers_to(served, b""))
        await asyncio.to_thread(eventually, lambda: held)
        assert served.under_way.bytes
        assert served.broker._room._writing
        held[0].set_exception(Unavailable("the disk is gone"))
        answer = await answering
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"outcome_unknown"' in answer
        refused, published, _ = served.counts()
        assert refused["outcome_unknown"] == 1
        assert not published.total()


async def test_publish_whose_answer_cannot_be_rendered_is_counted_and_answered_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with serving(tmp_path) as served:
        render, failures = created, [ArithmeticError()]

        def failing(*arguments: Any, batch: bool) -> Answer:
            for failure in failures:
                failures.clear()
                raise failure
            return render(*arguments, batch=batch)

        monkeypatch.setattr("broker.api.begun.created", failing)
        answers = await answers_to(served, request(b"1"))
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"500", b"201"]
        _, published, _ = served.counts()
        assert published["order"] == 2


async def test_publish_is_answered_once_also_where_the_store_is_lost_after_it(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        worker = worker_with(served.front)
        async with listening(worker) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"{}"))
            await reader.readuntil(b"\r\n\r\n")
            served.broker._store._group.lose("another broker has it")  # type: ignore[attr-defined]
            writer.write(request(b"{}"))
            rest = await reader.readuntil(b"\r\n\r\n")
            writer.close()
        assert re.findall(rb"HTTP/1.1 (\d+)", rest) == [b"503"]
        refused, published, _ = served.counts()
        assert (refused["outcome_unknown"], published.total()) == (1, 1)


async def test_publish_that_was_told_of_a_loss_is_not_told_of_its_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with serving(tmp_path) as served:
        group = served.broker._store._group  # type: ignore[attr-defined]
        commit = group._commit

        async def commit_while_lost(waiters: int) -> None:
            group.lose("another broker has it")
            await commit(waiters)

        monkeypatch.setattr(group, "_commit", commit_while_lost)
        answers = await answers_to(served, b"")
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"503"]
        refused, published, _ = served.counts()
        assert (refused["outcome_unknown"], published.total()) == (1, 0)


async def test_publish_whose_client_has_gone_is_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        store, held = served.broker._store, list[Waiter]()
        append_soon = store.append_soon

        def hold(topic: str, messages: Sequence[NewMessage], waiter: Waiter) -> Sequence[Appended]:
            held.append(waiter)
            return append_soon(topic, messages, asyncio.get_running_loop().create_future())

        monkeypatch.setattr(store, "append_soon", hold)
        worker = worker_with(served.front)
        async with listening(worker) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"{}"))
            await asyncio.to_thread(eventually, lambda: held)
            writer.transport.abort()
            await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)
            held[0].set_result(None)
            await asyncio.sleep(0.05)
        _, published, _ = served.counts()
        assert published.total() == 1
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_fault_of_the_broker_is_logged_with_the_request_and_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:

        def fail(*_: object) -> None:
            raise RuntimeError("no")

        monkeypatch.setattr(served.broker, "read", fail)
        answer = await answers_to(served, b"")
        assert answer.startswith(b"HTTP/1.1 500 ")
        served.counts()
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "A request failed."
    assert vars(record)["request_id"] == "asked"


async def test_answer_that_waits_for_its_client_holds_the_next_request_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(protocol, "STALL_S", 0.3)
    async with serving(tmp_path) as served:
        worker = worker_with(served.front)
        async with listening(worker) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUESTS["a wrong attribute"] * 100_000)
            await asyncio.to_thread(eventually, lambda: worker.nr_conns == 1)
            await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)
            writer.close()
        served.counts()
