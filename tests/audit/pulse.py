"""Signs that the broker is at work: publishes it acknowledged, and webhooks that came."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from audit.ledger import Ledger
from audit.publisher import Publisher


class Pulse:
    """Their times, as `time.time()` tells them."""

    def __init__(self, publishers: Sequence[Publisher], ledger: Ledger) -> None:
        self._publishers = publishers
        self._ledger = ledger

    def acknowledged(self, since: float) -> list[float]:
        """Return when publishes were acknowledged after a time."""
        times = [list(publisher.acknowledged_at) for publisher in self._publishers]
        return sorted(at for each in times for at in each[bisect_right(each, since) :])

    def arrived(self, since: float) -> list[float]:
        """Return when webhooks came after a time."""
        return self._ledger.times(since)

    def beats(self, since: float) -> bool:
        """Say whether there was both after a time."""
        return bool(self.acknowledged(since)) and bool(self.arrived(since))
