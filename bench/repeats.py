"""A measurement of a study, taken a few times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.result import Result


@dataclass(frozen=True, slots=True)
class Median:
    """Medians over the repeats: messages a second, and the server's processor time for one."""

    per_second: float
    cpu_us: float


def median_of(results: Sequence[Result]) -> Median:
    """Sum up repeats."""
    return Median(
        median(result.per_second for result in results),
        median(result.cpu_s_per_1000 for result in results) * 1000,
    )


def repeated(measure: Callable[[], Result], times: int) -> Median:
    """Measure so many times."""
    return median_of([measure() for _ in range(times)])


def in_turn(measures: Sequence[Callable[[], Result]], times: int) -> list[Median]:
    """Measure each so many times, in turn and back: a machine that changes, changes all of them."""
    results: list[list[Result]] = [[] for _ in measures]
    pairs = list(zip(measures, results, strict=True))
    for round_ in range(times):
        for measure, found in pairs if round_ % 2 == 0 else reversed(pairs):
            found.append(measure())
    return [median_of(found) for found in results]
