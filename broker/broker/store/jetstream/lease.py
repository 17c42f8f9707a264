"""How long an owner may act, and when another may take over. Times are as boot_time has them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """An owner that has written nothing for `lapse_s` has lost its ownership to whoever claims it.

    It writes at least every `beat_s`, and begins to send nothing `margin_s` before it could have
    lost it: as much as a clock may go wrong, and a request take until it is on its way.
    """

    lapse_s: float = 5.0
    beat_s: float = 1.0
    margin_s: float = 1.0


class Lease:
    """What an owner knows of its lease: it lasts from the beginning of its last write.

    That a write was answered late, or had to be repeated, does not lengthen it: others may have
    heard of it at its first try.
    """

    def __init__(self, times: LeaseTimes, clock: Callable[[], float]) -> None:
        self._times = times
        self._clock = clock
        self._began = float("-inf")

    def renew(self, began: float) -> None:
        """Hear that a write that began at a time was accepted."""
        self._began = max(self._began, began)

    def until(self) -> float:
        """Return when to begin no more requests."""
        return self._began + self._times.lapse_s - self._times.margin_s

    def beat_in(self) -> float:
        """Return how many seconds from now the owner has to write something."""
        return max(0.0, self._began + self._times.beat_s - self._clock())


class Watch:
    """What a broker that stands by knows of the owner: when it last heard of it."""

    def __init__(self, times: LeaseTimes, clock: Callable[[], float]) -> None:
        self._times = times
        self._clock = clock
        self._heard = clock()
        self._free = False

    def heard(self, *, released: bool = False) -> None:
        """Hear of a record of the owner's, just now; it may say that it has let go."""
        self._heard = self._clock()
        self._free = released

    def claimable(self) -> bool:
        """Say whether the journal may be claimed."""
        return self._free or self._clock() - self._heard >= self._times.lapse_s
