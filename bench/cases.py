"""The cases, in the order in which a round runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.end_to_end import batched, measure_end_to_end, single
from bench.latency import measure_latency
from bench.publishing import measure_baseline, measure_publishes
from bench.result import Result

BASELINE = "baseline"
CONNECTIONS = 64
PARTITION_KEYS = 1000
DEAD_ENDPOINTS = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure in a folder of its own, for so many seconds; `full` ones on request."""

    name: str
    title: str
    measure: Callable[[Path, float], Result]
    full: bool = False


CASES = (
    Case(
        BASELINE,
        "baseline: Flask, gthread, SQLite",
        partial(measure_baseline, connections=CONNECTIONS),
    ),
    *(
        Case(
            f"publish-{connections}",
            f"publish, {connections} connections",
            partial(measure_publishes, connections=connections),
            full=connections != CONNECTIONS,
        )
        for connections in (16, 32, CONNECTIONS)
    ),
    Case(
        "end-to-end",
        "publish to webhook",
        partial(measure_end_to_end, connections=CONNECTIONS, flow=single()),
    ),
    Case(
        "end-to-end-beside-dead",
        f"the same, beside {DEAD_ENDPOINTS} dead endpoints",
        partial(
            measure_end_to_end,
            connections=CONNECTIONS,
            flow=single(dead_endpoints=DEAD_ENDPOINTS),
        ),
    ),
    Case(
        "end-to-end-keyed",
        f"the same, ordered by {PARTITION_KEYS:,} keys",
        partial(measure_end_to_end, connections=CONNECTIONS, flow=single("key", PARTITION_KEYS)),
        full=True,
    ),
    Case(
        "end-to-end-batch",
        "the same, batches of 100",
        partial(measure_end_to_end, connections=CONNECTIONS, flow=batched()),
    ),
    *(
        Case(f"latency-{rate}", f"at {rate:,} messages/s", partial(measure_latency, rate=rate))
        for rate in (500, 2000)
    ),
)


def chosen_cases(*, full: bool, only: list[str]) -> tuple[Case, ...]:
    """Pick those named in `only`; without names, all or the usual ones."""
    if only:
        return tuple(case for case in CASES if case.name in only)
    return tuple(case for case in CASES if full or not case.full)
