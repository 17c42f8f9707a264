"""Plain requests by the clock: which URLs are plain, what is late, and what has rested too long."""

from __future__ import annotations

import gc
import select
import socket
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from broker.dispatch import plain as module
from broker.dispatch.answer import BROKE, TOO_LATE
from broker.dispatch.frames import Endpoint, Job, Outcome
from broker.dispatch.plain import (
    LOOK_S,
    REST_S,
    Connection,
    PlainRequests,
    Request,
    target_of,
)
from broker.model import Message

TOLD = Endpoint(1, "http://a.example/hook", "binary", [b"k"], [], 1000, ["x-a: 1", "x-b: "], "m-")
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "authority", "line", "host"),
    [
        ("http://a.example", "a.example:80", "/", "a.example"),
        ("http://a.example?x=/../y", "a.example:80", "/?x=/../y", "a.example"),
        ("HTTP://A.example:80/b", "a.example:80", "/b", "A.example"),
        ("http://a_b:8080/b%20c/.d?e", "a_b:8080", "/b%20c/.d?e", "a_b:8080"),
        ("http://127.0.0.1:0080/", "127.0.0.1:80", "/", "127.0.0.1"),
        ("http://[2001:db8::1]:9/", "[2001:db8::1]:9", "/", "[2001:db8::1]:9"),
        ("http://a.b7.example1/%C3%A4", "a.b7.example1:80", "/%C3%A4", "a.b7.example1"),
    ],
)
def test_plain_url_is_taken_apart(url: str, authority: str, line: str, host: str) -> None:
    target = target_of(replace(TOLD, url=url), "agent")

    assert target is not None
    assert target.authority == authority
    assert target.head.decode().split("\r\n") == [
        f"POST {line} HTTP/1.1",
        f"host: {host}",
        "user-agent: agent",
        "x-a: 1",
        "x-b: ",
        "accept: */*",
        "",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/",
        "http://a.example/b/../c",
        "http://a.example/b/.",
        "http://a.example/%2E%2e/c",
        "http://a.example/b#",
        "http://a.example:/b",
        "http://a%2eexample/",
        "http://[fe80::1%25eth0]/",
        "http://user@a.example/",
        "http://127.1/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://[2001:DB8::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://a.example./",
        "http://a.example/%7e",
        "http://a.example/ä",
        "http://a.example/b c",
        "http://a.example/\r\nx: y",
        "http://a.example/\x7f",
    ],
)
def test_other_urls_are_left_to_libcurl(url: str) -> None:
    assert target_of(replace(TOLD, url=url), "agent") is None


def test_header_that_is_more_than_one_line_is_left_to_libcurl() -> None:
    assert target_of(replace(TOLD, headers=["x-a: 1\r\nx-b: 2"]), "agent") is None


def test_accept_of_ones_own_takes_the_place_of_the_general_one() -> None:
    target = target_of(replace(TOLD, headers=["Accept: text/plain"]), "agent")

    assert target is not None
    assert target.head.lower().count(b"accept:") == 1


class World:
    """Plain requests that lead to sockets which a test holds the other ends of."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.may_send = True
        self.opening: list[Callable[[int, str], None]] = []
        self.peers: list[socket.socket] = []
        self.epoll = select.epoll()
        self.plain = PlainRequests(
            self.epoll, self, "agent", lambda: self.may_send, lambda: self.now
        )
        self._job = 0

    def open(self, endpoint: Endpoint, opened: Callable[[int, str], None]) -> None:
        """Note that a connection is wanted."""
        self.opening.append(opened)

    def connect(self) -> socket.socket:
        """Have the oldest that is wanted come about."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        self.peers.append(theirs)
        self.opening.pop(0)(ours.detach(), "")
        return theirs

    def start(self, endpoint: Endpoint = TOLD, body: bytes = b"1") -> int:
        """Have a request made."""
        self._job += 1
        self.plain.use(endpoint)
        self.plain.start(
            Job(self._job, 1, 1, [Message(1, None, b'{"id":"1"}', body, 0.0)]), endpoint
        )
        return self._job

    def answered(self) -> socket.socket:
        """Have a request made over a new connection, and answered."""
        self.start()
        peer = self.connect()
        peer.sendall(OK)
        assert [each.status for each in self.turn()] == [204]
        return peer

    def turn(self) -> list[Outcome]:
        """Hear what there is, and what has ended."""
        while events := self.epoll.poll(0):
            for descriptor, event in events:
                assert self.plain.hear(descriptor, event)
        return self.plain.ended()


def is_closed(peer: socket.socket) -> bool:
    """Say whether the other end is gone, having read what came before."""
    peer.setblocking(False)
    try:
        while peer.recv(65536):
            pass
    except BlockingIOError:
        return False
    return True


def read_all(peer: socket.socket) -> int:
    """Read what there is; say how much that was."""
    peer.setblocking(False)
    count = 0
    try:
        while piece := peer.recv(1 << 20):
            count += len(piece)
    except BlockingIOError:
        pass
    return count


def has_anything(peer: socket.socket) -> bool:
    """Say whether something has come."""
    return read_all(peer) > 0


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world of its own."""
    made = World()
    yield made
    for peer in made.peers:
        peer.close()
    made.turn()
    made.now += 10_000
    made.turn()
    made.epoll.close()


def test_each_request_is_late_by_its_own_time(world: World) -> None:
    slow = world.start(replace(TOLD, timeout_ms=5000))
    world.connect()
    quick = world.start()
    peer = world.connect()
    assert world.plain.wait_s() == 1.0

    world.now += 1
    assert [(each.job, each.error, each.duration_ms) for each in world.turn()] == [
        (quick, TOO_LATE, 1000)
    ]
    assert is_closed(peer)
    assert world.plain.wait_s() == 4.0

    world.now += 4
    assert [(each.job, each.error) for each in world.turn()] == [(slow, TOO_LATE)]
    assert world.plain.wait_s() == float("inf")


def test_connection_that_comes_too_late_is_kept_for_the_next(world: World) -> None:
    world.start()
    world.now += 1
    assert [each.error for each in world.turn()] == [TOO_LATE]

    peer = world.connect()
    assert not world.turn()
    job = world.start()

    assert not world.opening
    peer.sendall(OK)
    assert [(each.job, each.status) for each in world.turn()] == [(job, 204)]


def test_connection_that_comes_too_late_while_as_many_rest_as_may_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_AT_REST", 1)
    world.start()
    resting = world.answered()
    world.now += 1
    assert [each.error for each in world.turn()] == [TOO_LATE]

    assert is_closed(world.connect())
    assert not is_closed(resting)


@pytest.mark.parametrize("once", [True, False])
def test_request_that_is_late_is_not_sent(world: World, once: bool) -> None:
    """The process may have stood still, and hear of the connection before it looks at the clock."""
    world.start(replace(TOLD, once=once))
    world.now += 600
    peer = world.connect()

    assert [each.error for each in world.turn()] == [TOO_LATE]
    assert not has_anything(peer)


def test_rest_of_a_request_leaves_only_while_the_broker_may_send(world: World) -> None:
    job = world.start(replace(TOLD, once=True), bytes(1 << 22))
    peer = world.connect()
    world.turn()
    world.may_send = False
    sent = read_all(peer)
    assert [(each.job, each.error) for each in world.turn()] == [(job, BROKE)]

    assert is_closed(peer)
    assert 0 < sent < 1 << 22


def test_rest_of_a_request_that_is_late_does_not_leave(world: World) -> None:
    job = world.start(TOLD, bytes(1 << 22))
    peer = world.connect()
    world.turn()
    world.now += 600
    sent = read_all(peer)
    assert [(each.job, each.error) for each in world.turn()] == [(job, TOO_LATE)]

    assert is_closed(peer)
    assert 0 < sent < 1 << 22


@pytest.mark.parametrize(
    "endless",
    [
        b"webhook-verdict: retry\r\n" * 100,
        b"x-%s: y\r\n" % (b"x" * 60_000),
        b"x: " + b"y" * 60_000,
    ],
)
def test_what_comes_after_a_body_counts_for_nothing_and_is_bounded(
    world: World, endless: bytes
) -> None:
    world.start()
    peer = world.connect()
    peer.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n")
    outcomes, sent = [], 0
    while not (outcomes := world.turn()):
        peer.sendall(endless)
        sent += len(endless)
        assert sent < 1 << 20

    assert [(each.status, each.headers, each.body) for each in outcomes] == [(200, None, b"ok")]
    assert is_closed(peer)


def test_ended_requests_and_connections_are_freed_at_once(world: World) -> None:
    gc.collect()
    gc.disable()
    try:
        for answer in (OK, b"HTTP/1.0 200 OK\r\n\r\n", b"no HTTP\r\n\r\n", b""):
            world.start()
            peer = world.connect()
            peer.sendall(answer)
            world.turn()
            peer.close()
            world.turn()
        world.start()
        world.connect()
        world.now += 600
        world.turn()
        left = [each for each in gc.get_objects() if isinstance(each, (Request, Connection))]
    finally:
        gc.enable()
    assert not left


def test_connection_that_does_not_come_fails_who_waits_for_it(world: World) -> None:
    first = world.start()
    world.start()
    world.opening.pop(0)(-1, "refused")
    assert [(each.job, each.error) for each in world.turn()] == [(first, "refused")]

    world.now += 1
    assert [each.error for each in world.turn()] == [TOO_LATE]
    world.opening.pop(0)(-1, "refused")
    assert not world.turn()


def test_request_that_may_leave_once_leaves_only_while_the_broker_may_send(world: World) -> None:
    once = replace(TOLD, once=True)
    job = world.start(once)
    world.may_send = False
    peer = world.connect()

    assert [(each.job, each.error) for each in world.turn()] == [(job, BROKE)]
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


def test_connection_that_was_used_last_is_used_next(world: World) -> None:
    for _ in range(3):
        world.start()
    peers = [world.connect() for _ in range(3)]
    for peer in (peers[0], peers[2], peers[1]):
        peer.sendall(OK)
        world.turn()
        peer.recv(65536)

    world.start()

    assert peers[1].recv(65536).startswith(b"POST /hook ")


def test_connection_that_rests_too_long_is_closed(world: World) -> None:
    peer = world.answered()
    world.now += 1  # when the request would have been late
    world.turn()
    assert world.plain.wait_s() == LOOK_S - 1

    world.now += LOOK_S - 1
    world.turn()
    assert not is_closed(peer)

    world.now += REST_S - LOOK_S
    world.turn()
    assert is_closed(peer)
    assert world.plain.wait_s() == float("inf")


def test_connection_that_rested_too_long_is_not_used_again(world: World) -> None:
    peer = world.answered()
    world.now += REST_S

    world.start()

    assert len(world.opening) == 1
    assert is_closed(peer)


def test_only_so_many_connections_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_REST", 2)
    for _ in range(3):
        world.start()
    peers = [world.connect() for _ in range(3)]
    for peer in peers:
        peer.sendall(OK)
        world.turn()

    assert [is_closed(peer) for peer in peers] == [False, False, True]


def test_endpoint_that_is_forgotten_takes_no_more(world: World) -> None:
    world.plain.use(TOLD)
    assert world.plain.takes(1)
    world.plain.use(replace(TOLD, url="https://a.example/"))
    assert not world.plain.takes(1)
    world.plain.use(TOLD)
    world.plain.forget(1)
    assert not world.plain.takes(1)
