"""The couriers at work for one store, and which of them makes a subscription's requests."""

import math
from collections.abc import Callable, Sequence

from broker import __version__
from broker.dispatch.courier_line import CourierLine, Sender
from broker.dispatch.frames import Ask, Endpoint, Introduction, Job
from broker.model import Message
from broker.targets import AllowedTargets
from broker.tls import Tls


class Couriers:
    """Several courier processes, each replaced on its own when it ends.

    An endpoint belongs to one of them, so that its connections are used again and its requests
    leave in order: a new one to that with the fewest. All but the first start when they are needed.
    """

    def __init__(
        self,
        targets: AllowedTargets,
        tls: Tls,
        inherited: int | None,
        may_send_until: Callable[[], float] = lambda: math.inf,
        count: int = 1,
    ) -> None:
        limited = may_send_until() != math.inf
        introduction = Introduction(
            targets.names(), f"broker/{__version__}", tls, 0.0 if limited else None
        )
        self._lines = [CourierLine(introduction, inherited, may_send_until) for _ in range(count)]
        self._line_of: dict[int, CourierLine] = {}
        self._last_job = 0

    async def start(self) -> None:
        """Start the first process."""
        await self._lines[0].start()

    async def stop(self) -> None:
        """End the processes; their unanswered jobs stay unanswered."""
        for line in self._lines:
            await line.stop()

    def alive(self) -> bool:
        """Say whether all are at work that are needed."""
        return not any(line.broken() and line.endpoint_count() for line in self._lines)

    def reaches(self, endpoint: int) -> bool:
        """Say whether an endpoint's jobs can be sent now."""
        line = self._line_of.get(endpoint)
        return line is not None and line.alive()

    def set_endpoint(self, endpoint: Endpoint) -> None:
        """Tell where and how the endpoint's next jobs go."""
        line = self._line_of.get(endpoint.id)
        if line is None:
            line = min(self._lines, key=lambda each: each.endpoint_count())
            self._line_of[endpoint.id] = line
        line.set_endpoint(endpoint)
        line.begin()

    def forget_endpoint(self, id_: int) -> None:
        """Drop an endpoint that gets no more jobs."""
        if (line := self._line_of.pop(id_, None)) is not None:
            line.forget_endpoint(id_)

    def send(
        self,
        sender: Sender,
        endpoint: int,
        requests: Sequence[tuple[int, list[Message], list[str]]],
    ) -> list[int]:
        """Have requests made: attempt number, messages, own headers; return their job ids."""
        first = self._last_job + 1
        jobs = [
            Job(first + offset, endpoint, attempt, messages, headers)
            for offset, (attempt, messages, headers) in enumerate(requests)
        ]
        self._last_job += len(jobs)
        self._line_of[endpoint].send(sender, jobs)
        return [job.id for job in jobs]

    def ask(self, sender: Sender, endpoint: int, headers: list[str]) -> int:
        """Have an endpoint asked for its consent; return the job's id."""
        self._last_job += 1
        self._line_of[endpoint].ask(sender, Ask(self._last_job, endpoint, headers))
        return self._last_job
