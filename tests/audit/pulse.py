"""Signs that the broker is at work: publishes it acknowledged, and webhooks that came."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from audit.ledger import Ledger
from audit.publisher import Publisher


class Pulse:
    """Their times in each topic, as `time.time()` tells them."""

    def __init__(self, publishers: Sequence[Publisher], ledger: Ledger) -> None:
        self.topics = sorted({publisher.topic for publisher in publishers})
        self._publishers = publishers
        self._ledger = ledger

    def acknowledged(self, topic: str, since: float) -> list[float]:
        """Return when publishes were acknowledged after a time."""
        times = [list(each.acknowledged_at) for each in self._publishers if each.topic == topic]
        return sorted(at for each in times for at in each[bisect_right(each, since) :])

    def arrived(self, topic: str, since: float) -> list[float]:
        """Return when webhooks came after a time."""
        return self._ledger.times(topic, since)

    def beats(self, since: float) -> bool:
        """Say whether there was both after a time, in every topic."""
        return all(
            self.acknowledged(topic, since) and self.arrived(topic, since) for topic in self.topics
        )
