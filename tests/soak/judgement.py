"""Whether something grows for as long as the broker runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from soak.samples import MEASURES, Sample

MIB = 1024 * 1024
FEWEST = 10
"""With fewer samples in the second half nothing is judged."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much a measure may grow over the second half: a share of what it is, or so much.

    What never had more than `bound` may go up and down below that as it likes.
    """

    share: float
    least: float
    bound: float = 0.0

    def of(self, level: float) -> float:
        """Return what is allowed to something of this size."""
        return max(self.share * level, self.least)


TOLERANCES: Mapping[str, Tolerance] = {
    "pss": Tolerance(0.05, 8 * MIB),
    "rss": Tolerance(0.05, 8 * MIB),
    "descriptors": Tolerance(0.05, 4),
    "threads": Tolerance(0.0, 1),
    "file": Tolerance(0.05, 4 * MIB),
    # It keeps the size that it once had, and is cut back to 64 MiB when it begins anew.
    "wal": Tolerance(0.05, 16 * MIB, bound=96 * MIB),
}


@dataclass(frozen=True, slots=True)
class Growth:
    """How a measure went over the second half: its median, its highest, and what it grew by."""

    measure: str
    level: float
    highest: float
    grew: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it grew by no more than is allowed, or stayed within its bound."""
        return self.grew <= self.allowed or self.highest <= TOLERANCES[self.measure].bound


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of points (Theil and Sen).

    Unlike the line of least squares it is not led astray by some values that are far off, such as a
    write-ahead log just before it is moved into the file.
    """
    slopes = [
        (later - earlier) / (after - before)
        for place, (before, earlier) in enumerate(points)
        for after, later in points[place + 1 :]
        if after > before
    ]
    return median(slopes) if slopes else 0.0


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """Judge the second half of a run; nothing where that has too few samples."""
    if not samples:
        return []
    middle = (samples[0].at_s + samples[-1].at_s) / 2
    half = [sample for sample in samples if sample.at_s >= middle]
    if len(half) < FEWEST:
        return []
    lasted_s = half[-1].at_s - half[0].at_s
    return [_growth(measure, half, lasted_s) for measure in MEASURES]


def _growth(measure: str, half: Sequence[Sample], lasted_s: float) -> Growth:
    values = [float(getattr(sample, measure)) for sample in half]
    level = median(values)
    grew = slope([(sample.at_s, value) for sample, value in zip(half, values, strict=True)])
    allowed = TOLERANCES[measure].of(level)
    return Growth(measure, level, max(values), grew * lasted_s, allowed)
