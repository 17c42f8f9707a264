"""How often somebody may try a key that is none."""

import threading
import time
from collections import deque
from collections.abc import Callable

from broker.errors import BrokerError

MOST = 10
WITHIN_S = 60.0
MOST_ADDRESSES = 10_000


class TooManyGuesses(BrokerError):
    """Too many wrong keys came from this address."""

    status = 429
    code = "too_many_guesses"

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"Try again in {retry_after_s} seconds.")


class Guesses:
    """The wrong keys of the last minute, by where they came from. Called from every thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._wrong: dict[str, deque[float]] = {}

    def require(self, address: str) -> None:
        """Raise TooManyGuesses where no more may be tried now."""
        with self._lock:
            wrong = self._wrong.get(address)
            if wrong is None or len(wrong) < MOST:
                return
            if (left := wrong[0] + WITHIN_S - self._monotonic()) > 0:
                raise TooManyGuesses(int(left) + 1)

    def wrong(self, address: str) -> None:
        """Count a wrong key."""
        with self._lock:
            times = self._wrong.pop(address, None) or deque(maxlen=MOST)
            times.append(self._monotonic())
            self._wrong[address] = times  # at the end: who comes first is forgotten first
            if len(self._wrong) > MOST_ADDRESSES:
                del self._wrong[next(iter(self._wrong))]
