"""The rate limit of a subscription: a token bucket."""

from math import inf

BURST_S = 0.1


class RateLimit:
    """Lets through `rate` deliveries a second, and a tenth of a second's worth at once.

    Times are on a monotonic clock; a rate of None is no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._capacity = inf if rate is None else max(1.0, rate * BURST_S)
        self._tokens = self._capacity
        self._at: float | None = None

    def available(self, now: float) -> float:
        """Return how many deliveries may be sent now, a whole number."""
        if self.rate is None:
            return inf
        gained = (now - self._at) * self.rate if self._at is not None else 0.0
        self._tokens = min(self._capacity, self._tokens + gained)
        self._at = now
        return self._tokens // 1

    def take(self, count: int) -> None:
        """Spend `count` tokens; more than there are delay what comes after."""
        if self.rate is not None:
            self._tokens -= count

    def until_next(self, now: float) -> float:
        """Return in how many seconds the next delivery may be sent."""
        if self.rate is None or self.available(now) >= 1:
            return 0.0
        return (1 - self._tokens) / self.rate
