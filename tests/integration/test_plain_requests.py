"""Requests over plain HTTP: what endpoints may answer, and what becomes of their connections.

A URL with dots in its path is libcurl's, so that what it makes of an answer can be compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.dispatch.answer import BROKE, CLOSED, NO_HTTP, TOO_LATE
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Endpoint, Outcome
from broker.model import Message
from broker.subscription import Subscription
from broker.targets import parse_allowed_targets
from broker.tls import Tls

T = TypeVar("T")

ATTRIBUTES = b'{"id":"a","source":"/s","type":"t","specversion":"1.0"}'
PLAIN, ONCE, IMPATIENT, BATCH, LIBCURL = range(1, 6)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Play:
    """What a peer does with one request: the pieces of its answer, and how it ends.

    One that does not `listen` answers before it has read the body.
    """

    pieces: Sequence[bytes] = (OK,)
    end: str = "stay"
    listen: bool = True


class Peer:
    """Takes each request by the next play, the last of which stays."""

    def __init__(self) -> None:
        self.plays: list[Play] = [Play()]
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.open.add(writer)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._play(reader, writer):
                pass
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.open.discard(writer)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        self.heads.append(head)
        if play.listen:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.bodies.append(await reader.readexactly(length))
        for piece in play.pieces:
            writer.write(piece)
            await writer.drain()
            if len(play.pieces) > 1:
                await asyncio.sleep(0.001)
        if play.end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if not play.listen:
            await reader.read()
        return play.end == "stay"


class Heard:
    """A sender that hears how its only job ended."""

    subscription = Subscription("t", "s", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Hear the outcome."""
        (outcome,) = outcomes
        self.outcome.set_result(outcome)

    def lost(self, _: int) -> None:
        """Hear that there is none."""
        self.outcome.set_exception(AssertionError("the courier ended"))


class World:
    """A peer, and a courier that knows it as several endpoints."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._seq = 0
        self.peer = Peer()
        self.run(self._start())

    def run(self, work: Awaitable[T]) -> T:
        """Run something on the loop."""

        async def within() -> T:
            async with asyncio.timeout(20):
                return await work

        return self._runner.run(within())

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self.peer.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._couriers = Couriers(parse_allowed_targets(["127.0.0.0/8"]), Tls(), None)
        await self._couriers.start()
        for id_, path, format_, timeout_ms in (
            (PLAIN, "/a/hook?x=1", "binary", 5000),
            (ONCE, "/hook", "binary", 5000),
            (IMPATIENT, "/hook", "binary", 300),
            (BATCH, "/hook", "batch", 5000),
            (LIBCURL, "/a/../hook", "binary", 5000),
        ):
            self._couriers.set_endpoint(
                Endpoint(
                    id_, url + path, format_, [b"k"], [], timeout_ms, [], "m-", once=id_ == ONCE
                )
            )

    def send(self, endpoint: int, *plays: Play, body: bytes = b"1") -> Outcome:
        """Have one request made, and taken by these plays."""
        if plays:
            self.peer.plays = list(plays)
        return self.run(self._send(endpoint, body))

    def begin(self, endpoint: int) -> Awaitable[Outcome]:
        """Have a request handed to the courier, and its outcome waited for."""

        async def begin() -> asyncio.Task[Outcome]:
            task = asyncio.create_task(self._send(endpoint, b"1"))
            await asyncio.sleep(0.1)
            return task

        return self.run(begin())

    def send_together(self, count: int) -> list[Outcome]:
        """Have several requests made at once."""

        async def all_of_them() -> list[Outcome]:
            return await asyncio.gather(*[self._send(PLAIN, b"1") for _ in range(count)])

        return self.run(all_of_them())

    async def _send(self, endpoint: int, body: bytes) -> Outcome:
        self._seq += 1
        heard = Heard()
        self._couriers.send(
            heard, endpoint, [(1, [Message(self._seq, None, ATTRIBUTES, body, 0.0)], [])]
        )
        return await heard.outcome

    def wait(self, until: Callable[[], bool]) -> None:
        """Let the loop turn until something is true."""

        async def look() -> None:
            while not until():  # noqa: ASYNC110 nobody tells of it
                await asyncio.sleep(0.005)

        self.run(look())

    def close_connections(self) -> None:
        """Have the peer close each connection, and wait until that has been heard."""

        async def close() -> None:
            for writer in list(self.peer.open):
                writer.close()
            await asyncio.sleep(0.1)

        self.run(close())

    def say(self, unasked: bytes) -> None:
        """Have the peer say something on each connection, and wait until that has been heard."""

        async def say() -> None:
            for writer in list(self.peer.open):
                writer.write(unasked)
            await asyncio.sleep(0.1)

        self.run(say())

    def close(self) -> None:
        """End it all."""

        async def stop() -> None:
            await self._couriers.stop()
            self._server.close()

        self.run(stop())
        self.wait(lambda: not self.peer.open)
        self._runner.close()


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    """Return a world that many examples are tried in."""
    world = World()
    yield world
    world.close()


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world of its own."""
    world = World()
    yield world
    world.close()


# -- what is answered ------------------------------------------------------------------------------

STATUSES = st.sampled_from([200, 201, 202, 204, 299, 304, 400, 404, 410, 429, 500, 503, 599])
HEADERS = st.lists(
    st.sampled_from(
        [
            b"Retry-After: 7",
            b"retry-after:soon",
            b"Webhook-Verdict: retry",
            b"WEBHOOK-RECEIPT:\tprocessed ",
            b"Server: x",
            b"Date: Mon, 30 Nov 2026 10:00:00 GMT",
            b"X-Empty:",
            b"X-Bytes: \xe4\xff",
            b"Connection: keep-alive",
            b"Transfer: none",
            b"Content-Type: text/plain",
            b"Wrong-Retry: 1",
        ]
    ),
    max_size=4,
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Draw a whole answer, in whatever framing."""
    status = draw(STATUSES)
    body = draw(st.binary(max_size=30) | st.just(b"x" * 3000))
    version = draw(st.sampled_from([b"1.1", b"1.0"]))
    line_end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
    headers = draw(HEADERS)
    framing = draw(st.sampled_from(["length", "chunks", "close", "close header"]))
    if status in (204, 304):
        body = b""
    elif framing == "chunks" and version == b"1.1":
        headers.append(b"Transfer-Encoding: chunked")
        body = b"".join(
            b"%x\r\n%s\r\n" % (len(each), each) for each in (body[:9], body[9:]) if each
        )
        body += b"0\r\n\r\n"
    elif framing != "close":
        headers.append(b"Content-Length: %d" % len(body))
        if framing == "close header":
            headers.append(b"Connection: close")
    reason = draw(st.sampled_from([b" OK", b" Two words", b""]))
    lines = [b"HTTP/%s %d%s" % (version, status, reason), *headers, b"", b""]
    hints = b"HTTP/1.1 103 Early Hints\r\nWebhook-Verdict: reject\r\nRetry-After: 9\r\n\r\n"
    early = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", hints]))
    return early + line_end.join(lines) + body


@st.composite
def plays(draw: st.DrawFn) -> Play:
    """Draw an answer, perhaps cut short, in pieces; the peer closes the connection after it."""
    answer = draw(answers())
    if draw(st.booleans()):
        answer = answer[: draw(st.integers(0, len(answer)))]
    cuts = sorted(draw(st.lists(st.integers(0, len(answer)), max_size=3)))
    places = [0, *cuts, len(answer)]
    pieces = [answer[a:b] for a, b in pairwise(places) if a < b]
    return Play(pieces, "close")


@settings(max_examples=300, deadline=None)
@given(play=plays())
def test_answer_is_taken_as_libcurl_takes_it(shared_world: World, play: Play) -> None:
    ours = shared_world.send(PLAIN, play)
    theirs = shared_world.send(LIBCURL, play)

    assert (ours.status, ours.headers, ours.body) == (theirs.status, theirs.headers, theirs.body)
    assert bool(ours.error) is bool(theirs.error)


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (Play([], "close"), CLOSED),
        (Play([], "reset"), BROKE),
        (Play([OK[:10]], "close"), BROKE),
        (Play([OK[:-1]], "close"), BROKE),
        (Play([b"HTTP/1.1 200 OK\r\n\r\nwhole when cl"], "reset"), BROKE),
        (Play([b"220 mail.example ESMTP\r\n"]), NO_HTTP),
        (Play([b"HTTP/1.1 000 None\r\ncontent-length: 0\r\n\r\n"]), NO_HTTP),
        (Play([b"HTTP/1.1 200 OK\r\n", *[b"x: %s\r\n" % (b"y" * 60_000)] * 8]), NO_HTTP),
    ],
)
def test_what_is_no_answer_is_told(world: World, play: Play, reason: str) -> None:
    outcome = world.send(PLAIN, play)

    assert (outcome.status, outcome.error) == (0, reason)


def test_answer_that_comes_too_late_ends_its_connection(world: World) -> None:
    outcome = world.send(IMPATIENT, Play([OK[:5]]), Play())
    again = world.send(IMPATIENT)

    assert (outcome.status, outcome.error, again.status) == (0, TOO_LATE, 200)
    assert 300 <= outcome.duration_ms < 3000
    assert world.peer.connections == 2


@pytest.mark.parametrize(("endpoint", "kept"), [(PLAIN, 1024), (BATCH, 65536)])
def test_answer_that_does_not_stop_is_cut_off(world: World, endpoint: int, kept: int) -> None:
    head = b"HTTP/1.1 202 Accepted\r\ncontent-length: 1000000000\r\n\r\n"

    outcome = world.send(endpoint, Play([head, *[b"x" * 10_000] * 200], "close"))

    assert (outcome.status, outcome.body) == (202, b"x" * kept)


def test_what_only_libcurl_reads_is_left_to_it(world: World) -> None:
    twice = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok"

    outcomes = [world.send(PLAIN, Play([twice])).status for _ in range(3)]

    assert outcomes == [0, 200, 200]


# -- what is sent ----------------------------------------------------------------------------------


def test_request_is_what_libcurl_would_send(world: World) -> None:
    for endpoint in (PLAIN, LIBCURL):
        world.send(endpoint, body=b'{"n":1}')

    ours, theirs = (
        sorted(
            line
            for line in head.lower().split(b"\r\n")[1:]
            if not line.startswith(
                (b"webhook-signature", b"webhook-id", b"ce-seq", b"webhook-time")
            )
        )
        for head in world.peer.heads
    )
    assert ours == theirs
    assert world.peer.heads[0].startswith(b"POST /a/hook?x=1 HTTP/1.1\r\n")
    assert world.peer.bodies == [b'{"n":1}'] * 2


def test_large_body_comes_whole(world: World) -> None:
    body = bytes(range(256)) * 16_384  # 4 MiB, which no socket's buffer takes at once

    assert world.send(PLAIN, body=body).status == 200
    assert world.peer.bodies == [body]


def test_answer_that_comes_before_the_body_is_read_counts(world: World) -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

    outcome = world.send(PLAIN, Play([refused], listen=False), Play(), body=bytes(1 << 23))

    assert outcome.status == 413
    assert world.send(PLAIN).status == 200


# -- connections -----------------------------------------------------------------------------------


def test_connection_is_used_again(world: World) -> None:
    assert [world.send(endpoint).status for endpoint in (PLAIN, ONCE, PLAIN, BATCH)] == [200] * 4
    assert world.peer.connections == 1


def test_requests_at_the_same_time_have_connections_of_their_own(world: World) -> None:
    assert [each.status for each in world.send_together(5)] == [200] * 5
    assert [each.status for each in world.send_together(5)] == [200] * 5
    assert world.peer.connections == 5


@pytest.mark.parametrize(
    "last",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        OK + b"and more",
        OK + OK,
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_connection_that_should_end_is_not_used_again(world: World, last: bytes) -> None:
    assert [world.send(PLAIN, Play([last]), Play()).status, world.send(PLAIN).status] == [200, 200]
    assert world.peer.connections == 2


@pytest.mark.parametrize("endpoint", [PLAIN, ONCE])
def test_connection_that_ended_at_rest_harms_nobody(world: World, endpoint: int) -> None:
    world.send(endpoint)
    world.close_connections()

    assert world.send(endpoint).status == 200
    assert (len(world.peer.heads), world.peer.connections) == (2, 2)


def test_answer_that_nobody_asked_for_is_not_taken_for_that_of_a_request_at_the_same_time(
    world: World,
) -> None:
    world.send(PLAIN)
    courier = max(psutil.Process().children(), key=psutil.Process.create_time)
    courier.suspend()
    world.say(b"HTTP/1.1 299 Unasked\r\ncontent-length: 0\r\n\r\n")
    sending = world.begin(PLAIN)
    courier.resume()

    assert world.run(sending).status == 200
    assert world.peer.connections == 2


def test_answer_that_nobody_asked_for_is_not_taken_for_the_next(world: World) -> None:
    world.send(PLAIN)
    world.say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")

    assert world.send(PLAIN).status == 200
    assert world.peer.connections == 2


def test_connection_that_breaks_at_the_next_request_is_replaced(world: World) -> None:
    outcome = [world.send(PLAIN, Play(), Play([], "close"), Play()), world.send(PLAIN)][1]

    assert outcome.status == 200
    assert world.peer.bodies == [b"1"] * 3


def test_request_that_may_leave_once_only_is_not_sent_again(world: World) -> None:
    outcome = [world.send(ONCE, Play(), Play([], "close"), Play()), world.send(ONCE)][1]

    assert (outcome.status, outcome.error) == (0, CLOSED)
    assert world.peer.bodies == [b"1"] * 2


def test_new_connection_that_breaks_is_not_tried_again(world: World) -> None:
    outcome = world.send(PLAIN, Play([], "close"), Play())

    assert outcome.error == CLOSED
    assert len(world.peer.bodies) == 1


def test_replaced_connection_that_breaks_as_well_is_the_end(world: World) -> None:
    world.send(PLAIN, Play(), Play([], "close"), Play([], "close"), Play())

    assert world.send(PLAIN).error == CLOSED
    assert len(world.peer.bodies) == 3
