"""One cell as a queue: requests on one event loop, and groups of them that become one record.

What comes while one record is under way stands in the next: a queue with bulk service of unlimited
size (N. T. J. Bailey, On queueing processes with bulk service, J. R. Stat. Soc. B 16, 1954), behind
a single server (Pollaczek and Khinchine; L. Kleinrock, Queueing Systems I, 1975, 5.6).
"""

import heapq
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from bench.percentiles import percentile

NS = 1e9


@dataclass(frozen=True, slots=True)
class Cell:
    """Seconds: of the loop for a request, of the loop for a record, and a record's way.

    Its way is to the journal, back, and into the file; the loop is free meanwhile.
    """

    request_s: float
    record_s: float
    away_s: float

    @property
    def most_per_second(self) -> float:
        """Give the rate up to which records need not wait for the loop."""
        cycle_s = self.record_s + self.away_s
        return (1 - self.record_s / cycle_s) / self.request_s


def utilisation(cell: Cell, rate: float) -> float:
    """Say which part of its time the loop is busy; 1 and more is more than it can do."""
    return rate * cell.request_s + records_per_second(cell, rate) * cell.record_s


def records_per_second(cell: Cell, rate: float) -> float:
    """Say how many records there are: one after the other, each behind a first request."""
    cycle_s = cell.record_s + cell.away_s
    return 1 / (cycle_s + math.exp(-rate * cycle_s) / rate) if rate else 0.0


def mean_latency_s(cell: Cell, rate: float) -> float:
    """Give the mean time from a request's arrival to its answer, by the formulas.

    It waits for the loop: for the requests before it, and for what a record has left of its time
    there. Then for what is left of the record under way, half of it if there is one, and for its
    own.
    """
    if utilisation(cell, rate) >= 1:
        return math.inf
    records = records_per_second(cell, rate)
    requests_s = rate * cell.request_s**2 / (2 * (1 - rate * cell.request_s))
    wait_s = requests_s + records * cell.record_s**2 / 2
    record_s = wait_s + cell.record_s + cell.away_s
    return wait_s + cell.request_s + record_s + min(records * record_s, 1.0) * record_s / 2


@dataclass(frozen=True, slots=True)
class Seen:
    """What a simulation saw: how long requests took, in order of their answers; its records."""

    latencies_s: Sequence[float]
    records: int
    seconds: float

    @property
    def mean_s(self) -> float:
        """Give the mean."""
        return sum(self.latencies_s) / len(self.latencies_s)

    def quantile_s(self, share: float) -> float:
        """Give the time within which this share was answered."""
        return percentile(sorted(round(each * NS) for each in self.latencies_s), share) / NS

    @property
    def per_second(self) -> float:
        """Give the rate of answers."""
        return len(self.latencies_s) / self.seconds


def simulate_open(cell: Cell, rate: float, requests: int, seed: int = 1) -> Seen:
    """Have requests come at random (Poisson), whatever becomes of those before them."""
    random = Random(seed)

    def arrivals() -> Iterator[float]:
        at = 0.0
        for _ in range(requests):
            at += random.expovariate(rate)
            yield at

    return _Run(cell, arrivals()).run()


def simulate_closed(cell: Cell, clients: int, requests: int) -> Seen:
    """Have so many clients ask, each again once it is answered."""
    return _Run(cell, iter([0.0] * clients), again=requests - clients).run()


class _Run:
    """The events of one simulation. The loop does one job after the other, in order."""

    def __init__(self, cell: Cell, arrivals: Iterator[float], again: int = 0) -> None:
        self._cell = cell
        self._arrivals = arrivals
        self._again = again
        self._events: list[tuple[float, int, str, object]] = []
        self._order = count()
        self._jobs: deque[float | None] = deque()  # when a request came, None for a record
        self._busy = False
        self._open: list[float] = []
        self._under_way = False
        self._latencies_s: list[float] = []
        self._records = 0

    def run(self) -> Seen:
        """Go on until nothing is left to happen."""
        self._arrive_next()
        now = 0.0
        while self._events:
            now, _, what, about = heapq.heappop(self._events)
            if what == "come":
                self._arrive_next()
                self._ask(now, now)
            elif what == "done":
                self._finish(now, about)  # type: ignore[arg-type]
            else:
                self._answer(now, about)  # type: ignore[arg-type]
        return Seen(self._latencies_s, self._records, now)

    def _at(self, when: float, what: str, about: object = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, about))

    def _arrive_next(self) -> None:
        if (at := next(self._arrivals, None)) is not None:
            self._at(at, "come")

    def _ask(self, now: float, job: float | None) -> None:
        self._jobs.append(job)
        if not self._busy:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._busy = bool(self._jobs)
        if not self._busy:
            return
        job = self._jobs.popleft()
        if job is not None:
            self._at(now + self._cell.request_s, "done", job)
            return
        group, self._open = self._open, []
        self._at(now + self._cell.record_s, "done", group)

    def _finish(self, now: float, job: float | list[float]) -> None:
        if isinstance(job, list):
            self._at(now + self._cell.away_s, "back", job)
        else:
            self._open.append(job)
            self._write(now)
        self._begin(now)

    def _write(self, now: float) -> None:
        """Begin a record, unless one is under way, or there is nothing for it."""
        if self._open and not self._under_way:
            self._under_way = True
            self._records += 1
            self._jobs.append(None)
            if not self._busy:
                self._begin(now)

    def _answer(self, now: float, group: list[float]) -> None:
        self._latencies_s += [now - came for came in group]
        self._under_way = False
        for _ in range(min(self._again, len(group))):
            self._again -= 1
            self._at(now, "come")
        self._write(now)
