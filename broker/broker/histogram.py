"""How often something took how long, for next to nothing a time."""

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0),
)


class Histogram:
    """Counts of values by upper bound, with how many they are and their sum."""

    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one on a bound belongs below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count each of several values."""
        bounds, counts = self.bounds, self.counts
        before, place = -1.0, 0
        for value in values:
            if value != before:  # what came in one request has been waiting for as long
                before, place = value, bisect_left(bounds, value)
            counts[place] += 1
        self.count += len(values)
        self.sum += sum(values)

    def add(self, other: "Histogram") -> None:
        """Count what another one with the same bounds has counted."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.count += other.count
        self.sum += other.sum

    def cumulated(self) -> list[tuple[str, float]]:
        """Return how many values are at or below each bound, as Prometheus wants them."""
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        total = 0
        result = []
        for name, count in zip(names, self.counts, strict=True):
            total += count
            result.append((name, float(total)))
        return result
