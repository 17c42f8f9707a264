"""The courier: a child process that signs requests and makes them.

It owns no storage and takes no decisions. It ends when the worker does: the socket between them
closes, and on Linux the kernel ends it at once. One thread moves all requests on and is told by
epoll which sockets have something, so that its cost depends on the requests that move and not on
those that wait.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence

import msgspec

from broker.boot_time import boot_time
from broker.dispatch.connections import Connections
from broker.dispatch.frames import (
    Ask,
    Endpoint,
    Forget,
    Introduction,
    Job,
    Outcome,
    Until,
    decode_for_courier,
    framed,
    split,
)
from broker.dispatch.plain import PlainRequests
from broker.dispatch.transfers import Transfers
from broker.targets import parse_allowed_targets

PIECE_BYTES = 256 * 1024  # larger ones are read no faster

_PR_SET_PDEATHSIG = 1


class Courier:
    """Takes jobs from the worker, tells it their outcomes."""

    def __init__(self, peer: socket.socket, introduction: Introduction) -> None:
        self._peer = peer
        self._until = introduction.may_send_until
        self._waiting: list[Job | Ask] = []
        self._endpoints: dict[int, Endpoint] = {}
        self._buffer = bytearray()
        # Used again and again: room for the most that may come is dearer than reading a little.
        self._piece = memoryview(bytearray(PIECE_BYTES))
        self._epoll = select.epoll()
        self._epoll.register(peer.fileno(), select.EPOLLIN)
        self._connections = Connections(self._epoll)
        agent = introduction.user_agent
        self._transfers = Transfers(
            self._endpoints,
            self._connections,
            parse_allowed_targets(introduction.allowed_targets),
            agent,
            introduction.tls,
            self._may_send,
        )
        self._plain = PlainRequests(self._epoll, self._transfers, agent, self._may_send)

    def run(self) -> None:
        """Work until the worker is gone."""
        peer = self._peer.fileno()
        while True:
            wait_s = min(self._connections.wait_s(), self._plain.wait_s())
            asked = False
            for descriptor, events in self._epoll.poll(wait_s, 512):
                if descriptor == peer:
                    asked = True
                elif not self._plain.hear(descriptor, events):
                    self._connections.hear(descriptor, events)
            # New requests come last: by now it is known which connections have ended.
            if asked and not self._receive():
                return
            outcomes = [*self._transfers.ended(), *self._plain.ended()]
            if outcomes:
                self._peer.sendall(framed(outcomes))

    def _receive(self) -> bool:
        count = self._peer.recv_into(self._piece)
        self._buffer += self._piece[:count]
        for body in split(self._buffer):
            frame = decode_for_courier(body)
            if isinstance(frame, Endpoint):
                self._endpoints[frame.id] = frame
                self._transfers.forget(frame.id)
                self._plain.use(frame)
            elif isinstance(frame, Forget):
                self._endpoints.pop(frame.id, None)
                self._transfers.forget(frame.id)
                self._plain.forget(frame.id)
            elif isinstance(frame, Until):
                self._until = frame.time
                waiting, self._waiting = self._waiting, []
                self._start_all(waiting)
            elif isinstance(frame, Ask):
                self._start_all([frame])
            else:
                self._start_all(frame.jobs)
        return count > 0

    def _start_all(self, jobs: Sequence[Job | Ask]) -> None:
        """Start jobs, or keep them until the worker may send again."""
        for job in jobs:
            # Asked each time: this process may have been stopped since the last.
            if self._may_send():
                self._start(job)
            else:
                self._waiting.append(job)

    def _may_send(self) -> bool:
        return self._until is None or boot_time() < self._until

    def _start(self, job: Job | Ask) -> None:
        endpoint = self._endpoints.get(job.endpoint)
        if endpoint is None:  # forgotten while the job waited
            self._peer.sendall(framed([Outcome(job.id, 0, "the subscription is gone")]))
        elif isinstance(job, Ask):
            self._transfers.ask(job, endpoint)
        elif self._plain.takes(endpoint.id):
            self._plain.start(job, endpoint)
        else:
            self._transfers.start(job, endpoint)


def _end_with_parent(parent: int) -> None:
    """Have the kernel end this process with the worker, and never outlive a worker that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    """Run a courier: arguments are the socket's descriptor, the worker's pid, an Introduction."""
    descriptor, parent, introduction = sys.argv[1:]
    _end_with_parent(int(parent))
    told = msgspec.json.decode(introduction, type=Introduction)
    peer = socket.socket(fileno=int(descriptor))
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the worker was killed
        Courier(peer, told).run()
    os._exit(0)  # without collecting libcurl's handles, whose callbacks want a live interpreter


if __name__ == "__main__":
    main()
