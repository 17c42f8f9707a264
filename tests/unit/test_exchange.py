"""Publishes in one piece: answered as gunicorn answers, whatever the pieces of the stream."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.cli import protocol
from broker.cli.exchange import Exchange, NoAnswer, Request, request_of
from support.eventually import eventually
from unit.fake_worker import Event, Receive, Send, listening, worker_with

pytestmark = pytest.mark.anyio

PATH = b"/v1/topics/order/messages"
PLAIN = b"POST %s HTTP/1.1\r\nHost: x\r\n" % PATH
_DATE = re.compile(rb"\r\nDate: [^\r]+")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run on the loop that the broker runs on."""
    return "asyncio", {"use_uvloop": True}


async def echo(scope: Event, receive: Receive, send: Send) -> None:
    """Answer with what came."""
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    said = b"%s %s %s %r|%s" % (
        scope["method"].encode(),
        scope["path"].encode(),
        scope["query_string"],
        scope["headers"],
        body,
    )
    headers = [(b"content-length", b"%d" % len(said)), (b"location", b"/somewhere")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": said})


def request(body: bytes, *headers: bytes, start: bytes = PLAIN) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return start + b"".join(b"%s\r\n" % line for line in (*headers, length)) + b"\r\n" + body


CHUNKED = PLAIN + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
REQUESTS = {
    "plain": request(b"{}", b"Content-Type: application/json"),
    "event in headers": request(b"1", b"CE-Id: 7", b"ce-source: /a", b"CE-TYPE: t"),
    "everything that is known": request(
        b"{}", b"Accept: */*", b"User-Agent: a", b"Idempotency-Key: 1", b"Traceparent: 00"
    ),
    "an unknown header": request(b"{}", b"X-Other: 1"),
    "a header with an underscore": request(b"{}", b"ce_id: 1", b"ce-a_b: 1"),
    "a scheme from outside": request(b"{}", b"X-Forwarded-Proto: https"),
    "keep-alive": request(b"{}", b"Connection: keep-alive"),
    "no body": request(b""),
    "chunked": CHUNKED,
    "expects to be told to go on": request(b"{}", b"Expect: 100-continue"),
    "a query": request(b"{}", start=b"POST %s?a=b HTTP/1.1\r\nHost: x\r\n" % PATH),
    "an escape": request(b"{}", start=b"POST /v1/topics/a%20b/messages HTTP/1.1\r\nHost: x\r\n"),
    "another path": request(b"{}", start=b"POST /v1/topics/a HTTP/1.1\r\nHost: x\r\n"),
    "another method": request(b"{}", start=b"PUT %s HTTP/1.1\r\nHost: x\r\n" % PATH),
    "no host": request(b"{}", start=b"POST %s HTTP/1.1\r\n" % PATH),
    "a large body": request(b"x" * (protocol.PIECE + 1)),
    "as large as may be": request(b"x" * protocol.PIECE),
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST = {
    "close": request(b"{}", b"Connection: close"),
    "an old version": request(b"{}", start=b"POST %s HTTP/1.0\r\nHost: x\r\n" % PATH),
    "two lengths": PLAIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a broken line": b"POST\r\n\r\n",
    "two hosts": request(b"{}", b"Host: y"),
}


@contextlib.contextmanager
def gunicorns_way(patch: pytest.MonkeyPatch) -> Iterator[None]:
    with patch.context() as patched:
        patched.setattr(protocol, "request_of", lambda *_: None)
        yield


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(params=["short", "gunicorn's"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests go the short way, and then gunicorn's."""
    with gunicorns_way(monkeypatch) if request.param == "gunicorn's" else contextlib.nullcontext():
        yield


async def answers_to(stream: bytes, last: bytes = b"", cuts: Sequence[int] = ()) -> bytes:
    """Send a stream in pieces, each its own read at the other end; return all that is answered.

    What comes last is in one piece and the end, where a client might lose the answer otherwise: it
    is told that the connection is gone while it still sends.
    """
    worker = worker_with(echo)
    async with listening(worker) as port, connected(port) as (reader, writer):
        places = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
        for start, end in pairwise(places):
            writer.write(stream[start:end])
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(last or request(b"the end", b"Connection: close"))
        answers = await asyncio.wait_for(reader.read(), 10)
        writer.close()  # the broker waits for that where it had not read all of a request
        await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)
        assert not worker.connections
    return _DATE.sub(b"", answers)


@pytest.mark.parametrize("kind", [*REQUESTS, *LAST])
async def test_answer_is_the_one_that_gunicorn_gives(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stream = REQUESTS.get(kind, b""), LAST.get(kind, b"")
    with gunicorns_way(monkeypatch):
        expected = await answers_to(*stream)
    assert await answers_to(*stream) == expected
    if kind in REQUESTS:
        assert b"the end" in expected


async def test_plain_publish_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the others would compare gunicorn with itself."""
    taken: list[Request | None] = []

    def noted(*arguments: Any) -> Request | None:
        taken.append(request_of(*arguments))
        return taken[-1]

    monkeypatch.setattr(protocol, "request_of", noted)
    short = set()
    for kind, stream in REQUESTS.items():
        taken.clear()
        await answers_to(stream)
        if taken[0] is not None:
            short.add(kind)
    assert short == {
        "plain",
        "event in headers",
        "everything that is known",
        "keep-alive",
        "no host",
        "as large as may be",
    }


@given(
    kinds=st.lists(st.sampled_from(sorted(REQUESTS)), max_size=6),
    last=st.sampled_from([None, *LAST]),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
@example(kinds=["plain"] * 6, last=None, cuts=[])
@example(kinds=["plain", "another path", "plain"], last="close", cuts=[50])
@example(
    kinds=["expects to be told to go on"],
    last=None,
    cuts=[len(REQUESTS["expects to be told to go on"]) - 1],
)
def test_streams_are_answered_in_order_however_they_are_cut(
    kinds: list[str], last: str | None, cuts: list[int]
) -> None:
    stream = b"".join(REQUESTS[kind] for kind in kinds)
    end = LAST[last] if last is not None else b""
    with pytest.MonkeyPatch.context() as patch, gunicorns_way(patch):
        expected = asyncio.run(answers_to(stream, end))
    found = asyncio.run(answers_to(stream, end, cuts))
    # Who is told to go on depends on how much had come.
    assert found.replace(CONTINUE, b"") == expected.replace(CONTINUE, b"")


@contextlib.asynccontextmanager
async def waiting_app() -> AsyncIterator[tuple[Any, asyncio.Event, list[bytes]]]:
    """Serve an application that answers once it may, and keeps what it has got until then."""
    may, bodies = asyncio.Event(), []

    async def wait(scope: Event, receive: Receive, send: Send) -> None:
        bodies.append((await receive())["body"])
        await may.wait()
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    yield worker_with(wait), may, bodies


async def test_connection_is_not_closed_while_a_publish_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    async with waiting_app() as (worker, may, _):
        worker.cfg.set("keepalive", 1)
        async with listening(worker) as port, connected(port) as (reader, writer):
            writer.write(request(b"{}"))
            await asyncio.sleep(1.5)
            may.set()
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.startswith(b"HTTP/1.1 201 ")
            assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_publish_goes_on_though_its_client_has_gone() -> None:
    begun, may, kept = asyncio.Event(), asyncio.Event(), []

    async def keep(scope: Event, receive: Receive, send: Send) -> None:
        begun.set()
        await may.wait()
        kept.append((await receive())["body"])

    worker = worker_with(keep)
    async with listening(worker) as port, connected(port) as (_, writer):
        writer.write(request(b"mine"))
        await asyncio.wait_for(begun.wait(), 10)
        writer.transport.abort()
        await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)
        await asyncio.sleep(0.05)
        may.set()
        await asyncio.to_thread(eventually, lambda: kept)
    assert kept == [b"mine"]


async def test_requests_sent_ahead_wait_with_their_sender() -> None:
    """Each answer would otherwise let in a quarter of a megabyte more."""
    held: list[int] = []

    async def answer(scope: Event, receive: Receive, send: Send) -> None:
        (connection,) = worker.connections
        held.append(len(connection._callback_parser.early))
        await echo(scope, receive, send)

    worker = worker_with(answer)
    async with listening(worker) as port, connected(port) as (reader, writer):
        writer.write(request(b"x" * 1000) * 6000 + request(b"the end", b"Connection: close"))
        answers = await asyncio.wait_for(reader.read(), 60)
    assert answers.count(b"HTTP/1.1 201 ") == len(held) == 6001
    assert max(held) < 1 << 20


async def test_client_that_sends_ahead_and_takes_nothing_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "STALL_S", 0.3)

    async def answer(scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * (1 << 20)})

    def answering() -> list[Any]:
        return [task for task in asyncio.all_tasks(loop) if "Protocol._answer" in repr(task)]

    loop, worker = asyncio.get_running_loop(), worker_with(answer)
    async with listening(worker) as port:
        with contextlib.closing(socket.socket()) as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, request(b"{}") * 20)
            await asyncio.to_thread(eventually, answering)
            await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)
            await asyncio.to_thread(eventually, lambda: not answering())


async def test_at_a_stop_who_is_at_rest_has_a_while_and_who_waits_gets_the_answer() -> None:
    async with (
        waiting_app() as (worker, may, bodies),
        listening(worker) as port,
        connected(port) as (resting, _),
        connected(port) as (waiting, waits),
        connected(port) as (late, comes_late),
    ):
        waits.write(request(b"before"))
        await asyncio.to_thread(eventually, lambda: bodies)
        worker.alive = False
        for each in worker.connections:
            each.expire_if_at_rest(0.2)
        comes_late.write(request(b"late"))
        assert await asyncio.wait_for(resting.read(), 10) == b""
        await asyncio.to_thread(eventually, lambda: len(bodies) == 2)
        await asyncio.sleep(0.5)
        may.set()
        for reader in (waiting, late):
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith(b"HTTP/1.1 201 ")
            assert b"\r\nConnection: close\r\n" in answer
        await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)


@pytest.mark.usefixtures("way")
async def test_what_came_while_the_process_stood_still_is_read_before_a_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Timers come before the turn of a request that has been read."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    async with waiting_app() as (worker, may, _), listening(worker) as port:
        may.set()
        async with connected(port) as (reader, writer):
            await asyncio.to_thread(eventually, lambda: worker.nr_conns == 1)
            writer.write(request(b"{}"))
            time.sleep(0.6)  # noqa: ASYNC251 the loop is not to turn
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.startswith(b"HTTP/1.1 201 ")


async def test_application_hears_that_its_client_has_gone() -> None:
    heard: list[str] = []

    async def listen(scope: Event, receive: Receive, send: Send) -> None:
        while len(heard) < 3:
            heard.append((await receive())["type"])

    worker = worker_with(listen)
    async with listening(worker) as port, connected(port) as (_, writer):
        writer.write(request(b"{}"))
        await asyncio.to_thread(eventually, lambda: heard)
        await asyncio.sleep(0.05)
        assert heard == ["http.request"]
        writer.transport.abort()
        await asyncio.to_thread(eventually, lambda: len(heard) == 3)
    assert heard == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.usefixtures("way")
async def test_connection_without_a_next_request_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)
    worker = worker_with(echo)
    worker.cfg.set("keepalive", 1)
    async with listening(worker) as port, connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(request(b"{}"))
            assert b"HTTP/1.1 201 " in await asyncio.wait_for(reader.readuntil(b"{}"), 10)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        await asyncio.to_thread(eventually, lambda: worker.nr_conns == 0)


@pytest.mark.usefixtures("way")
async def test_application_that_fails_is_answered_for() -> None:
    async def fail(scope: Event, receive: Receive, send: Send) -> None:
        raise RuntimeError("no")

    async with listening(worker_with(fail)) as port, connected(port) as (reader, writer):
        writer.write(request(b"{}"))
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 500 ")


async def test_what_another_server_says_of_itself_is_not_said_twice() -> None:
    """An answer that is handed on has a Date and a Server already."""
    exchange = Exchange(Request("/", [], keep_alive=True))
    headers = [(b"date", b"Mon, 30 Nov 2026 12:00:00 GMT"), (b"server", b"another")]
    await exchange.send({"type": "http.response.start", "status": 201, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": b""})
    answer = exchange.answer(keep_alive=True).lower()
    assert answer.count(b"\r\ndate:") == answer.count(b"\r\nserver:") == 1


@pytest.mark.parametrize(
    ("headers", "bodies", "why"),
    [
        ([(b"location", b"/a\r\nset-cookie: b")], [(b"", False)], "end of a line"),
        ([(b"location", b"/a\rset-cookie: b")], [(b"", False)], "end of a line"),
        ([(b"content-length", b"2")], [(b"a", False)], "length"),
        ([], [(b"a", True)], "did not finish"),
        ([], [], "did not finish"),
    ],
)
async def test_answer_that_would_be_taken_for_another_is_not_sent(
    headers: list[tuple[bytes, bytes]], bodies: list[tuple[bytes, bool]], why: str
) -> None:
    exchange = Exchange(Request("/", [], keep_alive=True))
    await exchange.send({"type": "http.response.start", "status": 201, "headers": headers})
    for body, more in bodies:
        await exchange.send({"type": "http.response.body", "body": body, "more_body": more})
    with pytest.raises(NoAnswer, match=why):
        exchange.answer(keep_alive=True)


async def test_answer_in_parts_is_sent_as_one() -> None:
    exchange = Exchange(Request("/", [], keep_alive=True))
    await exchange.send({"type": "http.response.start", "status": 201, "headers": []})
    for body, more in ((b"a", True), (b"bc", True), (b"", False)):
        await exchange.send({"type": "http.response.body", "body": body, "more_body": more})
    head, _, body = exchange.answer(keep_alive=True).partition(b"\r\n\r\n")
    assert b"\r\ncontent-length: 3\r\n" in head
    assert body == b"abc"
