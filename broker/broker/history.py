"""How much the broker did in each of the last moments: what its pages draw."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

STEP_S = 2.0
STEPS = 150


@dataclass(frozen=True, slots=True)
class Totals:
    """What was done by a moment: messages stored, deliveries acked, attempts failed.

    `at` is in seconds on a clock that never goes back. A total falls where what was counted is
    deleted.
    """

    at: float
    published: int
    delivered: int
    failed: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The same a second, for each step from the oldest to the newest."""

    published: Sequence[float]
    delivered: Sequence[float]
    failed: Sequence[float]


class History:
    """The totals of the last steps."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals
        self._kept: deque[Totals] = deque(maxlen=STEPS + 1)

    async def keep(self) -> None:
        """Note the totals at every step, until cancelled."""
        while True:
            self._kept.append(self._totals())
            await asyncio.sleep(STEP_S)

    def rates(self) -> Rates:
        """Return what was done a second."""
        return rates_of(tuple(self._kept))


def rates_of(kept: Sequence[Totals]) -> Rates:
    """Return what was done a second between each two totals."""
    pairs = list(pairwise(kept))
    spans = [after.at - before.at for before, after in pairs]

    def a_second(count: Callable[[Totals], int]) -> list[float]:
        return [
            max(0, count(after) - count(before)) / span
            for (before, after), span in zip(pairs, spans, strict=True)
        ]

    return Rates(
        a_second(lambda totals: totals.published),
        a_second(lambda totals: totals.delivered),
        a_second(lambda totals: totals.failed),
    )
