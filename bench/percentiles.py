"""Say how a set of times is spread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NS_PER_MS = 1e6
# Shares of the values at which a curve is taken.
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float


def percentile(ordered: Sequence[int], share: float) -> int:
    """Pick the smallest value that at least `share` (0 to 1) of the sorted values do not exceed."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def spread_of(times_ns: Sequence[int]) -> Spread:
    """Sum up times in nanoseconds."""
    ordered = sorted(times_ns)
    p50, p99, longest = (percentile(ordered, share) / NS_PER_MS for share in (0.5, 0.99, 1.0))
    return Spread(p50, p99, longest)


def curve_of(times_ns: Sequence[int]) -> tuple[float, ...]:
    """Give the percentiles at SHARES, in milliseconds."""
    ordered = sorted(times_ns)
    return tuple(percentile(ordered, share) / NS_PER_MS for share in SHARES)
