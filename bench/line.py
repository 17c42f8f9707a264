"""A straight line through measurements."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """What there is of y without x, and what each x adds."""

    base: float
    slope: float


def fitted(points: Sequence[tuple[float, float]]) -> Line:
    """Fit a line by least squares of the relative error: costs range over decades.

    Neither part is negative: where one would be, the other takes all.
    """
    weighted = [(1 / y**2, x, y) for x, y in points]
    total = sum(w for w, _, _ in weighted)
    mean_x = sum(w * x for w, x, _ in weighted) / total
    mean_y = sum(w * y for w, _, y in weighted) / total
    spread = sum(w * (x - mean_x) ** 2 for w, x, _ in weighted)
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in weighted) / spread
    if slope < 0:
        return Line(mean_y, 0.0)
    base = mean_y - slope * mean_x
    if base < 0:
        squares = sum(w * x * x for w, x, _ in weighted)
        return Line(0.0, sum(w * x * y for w, x, y in weighted) / squares)
    return Line(base, slope)
