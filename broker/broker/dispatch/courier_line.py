"""The worker's side of one courier: starting it, feeding it, hearing from it, replacing it."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from broker.dispatch.frames import (
    Ask,
    Endpoint,
    Forget,
    Introduction,
    Job,
    Jobs,
    Outcome,
    Until,
    decode_outcomes,
    framed,
    split,
)
from broker.subscription import Subscription

log = logging.getLogger(__name__)

SOCKET_BUFFER_BYTES = 1 << 20
RESTART_PAUSE_S = 0.1
PROLONG_S = 0.25


class Sender(Protocol):
    """Who sent a job and waits to hear how it ended."""

    @property
    def subscription(self) -> Subscription:
        """Whose jobs these are."""

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Hear how jobs ended, in that order."""

    def lost(self, job: int) -> None:
        """Hear that the job ended without an outcome: the courier is gone."""


class CourierLine(asyncio.Protocol):
    """One courier process, replaced whenever it ends, and the endpoints that are its own.

    `may_send_until` is asked again and again where the introduction says that it is limited.
    """

    def __init__(
        self,
        introduction: Introduction,
        inherited: int | None,
        may_send_until: Callable[[], float],
    ) -> None:
        self._introduction = msgspec.json.encode(introduction).decode()
        self._limited = introduction.may_send_until is not None
        self._may_send_until = may_send_until
        self._inherited = inherited
        self._senders: dict[int, Sender] = {}
        self._endpoints: dict[int, Endpoint] = {}
        self._buffer = bytearray()
        self._begun = False
        self._broken = False
        self._stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._prolonging: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Start the process soon, unless that was done before."""
        if not self._begun:
            self._begun = True
            self._keep(asyncio.create_task(self._begin(), name="courier start"))

    async def _begin(self) -> None:
        self._broken = True  # until it is started
        try:
            await self.start()
        except OSError as error:
            _tell_of_failure(error)
            await self._replace()

    async def start(self) -> None:
        """Start the process and connect to it. Raises OSError where there is none to be had."""
        self._begun = True
        mine, theirs = socket.socketpair()
        for end in (mine, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        inherited = [] if self._inherited is None else [self._inherited]
        self._child = subprocess.Popen(  # noqa: S603, ASYNC220 our own module; the fork takes 1 ms
            [
                sys.executable,
                "-m",
                "broker.dispatch.courier",
                str(theirs.fileno()),
                str(os.getpid()),
                self._introduction,
            ],
            pass_fds=[theirs.fileno(), *inherited],
        )
        theirs.close()
        loop = asyncio.get_running_loop()
        self._buffer.clear()
        transport, _ = await loop.create_connection(lambda: self, sock=mine)
        self._transport = transport
        self._broken = False
        for endpoint in self._endpoints.values():
            transport.write(framed(endpoint))
        if self._limited and self._prolonging is None:
            self._prolonging = self._keep(asyncio.create_task(self._prolong(), name="may send"))

    async def _prolong(self) -> None:
        """Tell the courier, again and again, until when it may begin requests."""
        while True:
            if self._transport is not None:
                self._transport.write(framed(Until(self._may_send_until())))
            await asyncio.sleep(PROLONG_S)

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """End the process; its unanswered jobs stay unanswered."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._transport is not None:
            self._transport.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def alive(self) -> bool:
        """Say whether jobs can be sent now."""
        return self._transport is not None

    def broken(self) -> bool:
        """Say whether the process is gone and no other has taken its place yet."""
        return self._broken

    def endpoint_count(self) -> int:
        """Count the endpoints that are its own."""
        return len(self._endpoints)

    def set_endpoint(self, endpoint: Endpoint) -> None:
        """Tell where and how the endpoint's next jobs go."""
        self._endpoints[endpoint.id] = endpoint
        if self._transport is not None:
            self._transport.write(framed(endpoint))

    def forget_endpoint(self, id_: int) -> None:
        """Drop an endpoint that gets no more jobs."""
        self._endpoints.pop(id_, None)
        if self._transport is not None:
            self._transport.write(framed(Forget(id_)))

    def send(self, sender: Sender, jobs: list[Job]) -> None:
        """Have requests made, in order."""
        self._senders.update(dict.fromkeys([job.id for job in jobs], sender))
        if self._transport is not None:
            self._transport.write(framed(Jobs(jobs)))

    def ask(self, sender: Sender, ask: Ask) -> None:
        """Have an endpoint asked for its consent."""
        self._senders[ask.id] = sender
        if self._transport is not None:
            self._transport.write(framed(ask))

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hand outcomes to those who wait for them."""
        self._buffer += data
        for body in split(self._buffer):
            told: list[tuple[Sender, list[Outcome]]] = []
            for outcome in decode_outcomes(body):
                sender = self._senders[outcome.job]
                if not told or told[-1][0] is not sender:
                    told.append((sender, []))
                told[-1][1].append(outcome)
            for sender, outcomes in told:
                for outcome in outcomes:
                    del self._senders[outcome.job]
                sender.ended(outcomes)

    def connection_lost(self, exc: Exception | None) -> None:
        """Start another courier; what this one had not answered ended without an outcome."""
        self._transport = None
        if self._stopping:
            return
        self._broken = True
        log.error("A courier ended; starting another.", extra={"action": "courier_restart"})
        self._keep(asyncio.create_task(self._replace(), name="courier restart"))

    async def _start_again(self) -> None:
        while True:
            await asyncio.sleep(RESTART_PAUSE_S)
            try:
                await self.start()
            except OSError as error:  # no process or memory to be had at the moment
                _tell_of_failure(error)
            else:
                return

    async def _replace(self) -> None:
        if self._child is not None:
            self._child.kill()
            await asyncio.to_thread(self._child.wait)
        started = time.monotonic()
        await self._start_again()
        # Only now: until there was a new one, jobs came in that were sent to nobody.
        lost, self._senders = self._senders, {}
        for job, sender in lost.items():
            sender.lost(job)
        log.info(
            "A new courier is at work after %.1f s; %d requests are sent again.",
            time.monotonic() - started,
            len(lost),
            extra={"action": "courier_restarted"},
        )


def _tell_of_failure(error: OSError) -> None:
    log.error("No courier can be started: %s.", error, extra={"action": "no_courier"})
