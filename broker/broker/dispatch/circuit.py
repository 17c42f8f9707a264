"""The circuit: no attempts at an endpoint that is down, but for a probe now and then.

closed ── FAILURES in a row ──▶ open ── the pause is over ──▶ probing ──▶ closed, or open for longer
(M. Nygard, Release It!, "Circuit Breaker")
"""

from math import inf

FAILURES = 10
MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0


class Circuit:
    """One endpoint's circuit. Times are on any one clock."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = 0.0
        self._open_until: float | None = None
        self._probing = False

    @property
    def closed(self) -> bool:
        """Say whether attempts are made as usual."""
        return self._open_until is None

    def slots(self, now: float) -> float:
        """Return how many requests may begin now: any number, one as a probe, or none."""
        if self._open_until is None:
            return inf
        return 0 if self._probing or now < self._open_until else 1

    def opens_at(self, now: float) -> float | None:
        """Return when the next probe may be sent, if that lies ahead."""
        if self._open_until is None or self._probing or self._open_until <= now:
            return None
        return self._open_until

    def sending(self) -> bool:
        """Hear that a request begins; return whether it is the probe."""
        self._probing = self._open_until is not None
        return self._probing

    def unsent(self) -> None:
        """Hear that the probe ended without an outcome."""
        self._probing = False

    def answered(self) -> None:
        """Hear of an outcome that shows the endpoint at work."""
        self._failures = 0
        self._pause_s = 0.0
        self._open_until = None
        self._probing = False

    def failed(self, now: float, *, probe: bool) -> None:
        """Hear of a failure. Those of requests sent before it opened change nothing any more."""
        if self._open_until is None:
            self._failures += 1
            if self._failures < FAILURES:
                return
        elif not probe:
            return
        self._probing = False
        self._pause_s = min(max(2 * self._pause_s, MIN_PAUSE_S), MAX_PAUSE_S)
        self._open_until = now + self._pause_s
