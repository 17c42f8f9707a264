"""An open-loop publisher: it sends by the clock, whether or not answers have come.

Waiting for a late answer would hide the lateness of all that should have been sent meanwhile
("coordinated omission"), so a time here always runs from the moment a message was *due*, and a
connection is opened whenever none is free, up to a limit.
"""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.http_message import take_message
from bench.messages import JSON, numbered
from bench.server_process import HOST

NS_PER_S = 1_000_000_000
RECEIVE_BYTES = 65536
ANSWER_S = 30.0
# Opened ahead, so that the first messages do not measure the handshake.
CONNECTIONS = 16
# Far below what select() can watch (file descriptors up to 1023).
MOST_CONNECTIONS = 256


class PublishFailed(Exception):
    """A publish was refused, or not answered in time."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many messages, and how many a second, evenly spaced."""

    count: int
    rate: float

    def due_ns(self, index: int, start_ns: int) -> int:
        """Say when a message is to be sent."""
        return start_ns + int(index / self.rate * NS_PER_S)


@dataclass(slots=True)
class PublishTimes:
    """When each message was due, sent and answered, by its index, in epoch nanoseconds."""

    due_ns: list[int] = field(default_factory=list)
    sent_ns: list[int] = field(default_factory=list)
    answered_ns: dict[int, int] = field(default_factory=dict)


class Publisher:
    """Send documents to one path, a topic's by default, over as many connections as it takes.

    `document` builds the one with a number.
    """

    def __init__(self, port: int, path: str, document: Callable[[int], bytes] = numbered) -> None:
        self._port = port
        self._path = path
        self._document = document
        # In turn, so that none idles until the server closes it.
        self._free: deque[socket.socket] = deque()
        self._waiting: dict[socket.socket, tuple[int, bytearray]] = {}
        self.times = PublishTimes()

    def run(self, schedule: Schedule) -> PublishTimes:
        """Publish the whole schedule, return once all is answered. Raises PublishFailed."""
        self._free.extend(self._connect() for _ in range(CONNECTIONS))
        try:
            with collection_paused():
                self._send_on_time(schedule)
                self._await_answers(0)
        finally:
            for connection in [*self._free, *self._waiting]:
                connection.close()
        return self.times

    def _send_on_time(self, schedule: Schedule) -> None:
        start_ns = time.time_ns()
        for index in range(schedule.count):
            due_ns = schedule.due_ns(index, start_ns)
            while (early_ns := due_ns - time.time_ns()) > 0:
                self._receive(early_ns / NS_PER_S)
            self._receive(0)
            self._await_answers(MOST_CONNECTIONS - 1)
            self._send(index, due_ns)

    def _await_answers(self, at_most: int) -> None:
        while len(self._waiting) > at_most:
            if not self._receive(ANSWER_S):
                raise PublishFailed(f"{len(self._waiting)} messages had no answer in {ANSWER_S} s")

    def _send(self, index: int, due_ns: int) -> None:
        connection = self._free.popleft() if self._free else self._connect()
        self.times.due_ns.append(due_ns)
        self.times.sent_ns.append(time.time_ns())
        connection.sendall(self._request(index))
        self._waiting[connection] = (index, bytearray())

    def _request(self, index: int) -> bytes:
        body = self._document(index)
        head = f"POST {self._path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {JSON}\r\n"
        return b"%sContent-Length: %d\r\n\r\n%s" % (head.encode(), len(body), body)

    def _receive(self, wait_s: float) -> bool:
        readable, _, _ = select.select(list(self._waiting), [], [], wait_s)
        for connection in readable:
            self._take_answer(connection)
        return bool(readable)

    def _take_answer(self, connection: socket.socket) -> None:
        index, buffer = self._waiting[connection]
        received = connection.recv(RECEIVE_BYTES)
        buffer += received
        answer = take_message(buffer)
        if answer is None and received:
            return
        if answer is None or not answer.head.startswith(b"HTTP/1.1 201 "):
            raise PublishFailed(f"message {index} was answered {answer}")
        self.times.answered_ns[index] = time.time_ns()
        del self._waiting[connection]
        self._free.append(connection)

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((HOST, self._port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep the garbage collector from making a message late."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
