"""Being called again after a while that is the same for all."""

import asyncio
from collections import deque
from collections.abc import Callable


class Reminders:
    """Calls back those who ask, `wait_s` later and no sooner, in the order in which they asked.

    They share a timer: one for each of thousands, set and cancelled with every request, would cost
    as much as a tenth of the requests.
    """

    def __init__(self, wait_s: float, monotonic: Callable[[], float]) -> None:
        self._wait_s = wait_s
        self._monotonic = monotonic
        self._asked: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, call: Callable[[], None]) -> None:
        """Have it called once; that it is not wanted any more, it has to find out itself."""
        self._asked.append((self._monotonic() + self._wait_s, call))
        if self._timer is None:
            self._set_timer(self._wait_s)

    def look(self) -> None:
        """Call those whose time has come."""
        now, asked = self._monotonic(), self._asked
        try:
            while asked and asked[0][0] <= now:
                asked.popleft()[1]()  # may ask again, and finds the timer set
        finally:
            self._timer = None
            if asked:
                self._set_timer(max(0.0, asked[0][0] - now))

    def _set_timer(self, wait_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.look)
