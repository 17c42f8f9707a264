"""libcurl's connections, told by epoll which of them have something."""

import contextlib
import select
import time
from collections.abc import Iterator

import pycurl

# libcurl looks for a connection that is free among all to the same host: with one pool for all
# subscriptions, those whose endpoints are on one host would cost each other more than the request.
POOLS = 16
CONNECTIONS_KEPT = 1024
IDLE_WAIT_S = 60.0

_EVENTS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
    pycurl.POLL_REMOVE: 0,
}


class Pool:
    """Connections that the requests of some endpoints share."""

    __slots__ = ("due_at", "multi")

    def __init__(self) -> None:
        self.multi = pycurl.CurlMulti()
        self.due_at = float("inf")  # when libcurl wants to be called next, monotonic


class Connections:
    """Moves transfers on, in one thread; what they cost depends on those that move."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._pools = [Pool() for _ in range(POOLS)]
        self._of_multi = {pool.multi: pool for pool in self._pools}
        for pool in self._pools:
            pool.multi.setopt(pycurl.M_MAXCONNECTS, CONNECTIONS_KEPT)
            pool.multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._wanted: dict[int, tuple[Pool, int]] = {}
        self._registered: set[int] = set()
        self._moved: set[Pool] = set()

    def add(self, curl: pycurl.Curl, endpoint: int) -> None:
        """Begin a transfer to an endpoint."""
        pool = self._pools[endpoint % POOLS]
        pool.multi.add_handle(curl)
        self._moved.add(pool)

    def remove(self, curl: pycurl.Curl, endpoint: int) -> None:
        """Take back a transfer that has ended."""
        self._pools[endpoint % POOLS].multi.remove_handle(curl)

    def wait_s(self) -> float:
        """Return how long nothing has to be done unless a connection has something."""
        due_at = min([pool.due_at for pool in self._pools])
        return min(max(due_at - time.monotonic(), 0.0), IDLE_WAIT_S)

    def hear(self, descriptor: int, events: int) -> None:
        """Hear that a socket has something."""
        pool, wanted = self._wanted.get(descriptor, (None, 0))
        if pool is not None and wanted:
            pool.multi.socket_action(descriptor, _bits(events))
            self._moved.add(pool)
        else:
            self._unregister(descriptor)

    def let_go(self, descriptor: int) -> None:
        """Watch a socket no more that is still open: a copy of it would keep it registered."""
        self._wanted.pop(descriptor, None)
        self._unregister(descriptor)

    def ended(self) -> Iterator[tuple[pycurl.Curl, int]]:
        """Move on what is due, and yield each transfer that has ended, with its error or 0."""
        now = time.monotonic()
        moved, self._moved = self._moved, set()
        moved.update([pool for pool in self._pools if pool.due_at <= now])
        for pool in moved:
            multi = pool.multi
            multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            more = 1
            while more:
                more, succeeded, failed = multi.info_read(256)
                for curl in succeeded:
                    yield curl, 0
                for curl, error, _ in failed:
                    yield curl, error
            wait_ms = multi.timeout()
            pool.due_at = time.monotonic() + wait_ms / 1000 if wait_ms >= 0 else float("inf")

    def _watch(self, what: int, descriptor: int, multi: pycurl.CurlMulti, _: object) -> None:
        """Hear from libcurl what it waits for.

        A socket stays registered when its transfer ends, and is unregistered once it has something
        that nobody wants. libcurl does not say when it closes one: CLOSESOCKETFUNCTION would belong
        to the handle that opened the connection, and crashes once that is gone. So the kernel is
        asked each time, whether the descriptor is still the socket that was registered.
        """
        wanted = _EVENTS[what]
        self._wanted[descriptor] = (self._of_multi[multi], wanted)
        if not wanted:
            return
        if descriptor in self._registered:
            try:
                self._epoll.modify(descriptor, wanted)
            except FileNotFoundError:
                self._epoll.register(descriptor, wanted)
        else:
            self._registered.add(descriptor)
            self._epoll.register(descriptor, wanted)

    def _unregister(self, descriptor: int) -> None:
        self._registered.discard(descriptor)
        with contextlib.suppress(OSError):  # closed meanwhile
            self._epoll.unregister(descriptor)


def _bits(events: int) -> int:
    bits = 0
    if events & (select.EPOLLIN | select.EPOLLHUP):
        bits |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        bits |= pycurl.CSELECT_OUT
    if events & select.EPOLLERR:
        bits |= pycurl.CSELECT_ERR
    return bits
