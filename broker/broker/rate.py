"""A limit on how many a second: a token bucket."""

from math import inf

BURST_S = 0.1


class RateLimit:
    """Lets through `rate` a second, and what that is in `burst_s` at once, one at least.

    Times are on a monotonic clock; a rate of None is no limit.
    """

    def __init__(self, rate: float | None, burst_s: float = BURST_S) -> None:
        self._burst_s = burst_s
        self._tokens = inf
        self._at: float | None = None
        self.change(rate)

    def change(self, rate: float | None) -> None:
        """Have another rate from now on; what was taken beyond the tokens still delays."""
        self.rate = rate
        self._capacity = inf if rate is None else max(1.0, rate * self._burst_s)
        self._tokens = min(self._tokens, self._capacity)

    def available(self, now: float) -> float:
        """Return how many are let through now, a whole number."""
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
        """Return in how many seconds the next one is let through."""
        if self.rate is None or self.available(now) >= 1:
            return 0.0
        return (1 - self._tokens) / self.rate
