"""One named thread that repeats its work until it is stopped."""

import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from broker_client.errors import BrokerClientError


class Pulse:
    """What a background thread listens to: the bell, and the order to stop."""

    def __init__(self) -> None:
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._at_stop: list[Callable[[], None]] = []

    @property
    def stopping(self) -> bool:
        """Say whether the thread is to end."""
        return self._stopping.is_set()

    def silence(self) -> None:
        """Make the bell quiet; to be done before the look at the work, or a ring is lost."""
        self._bell.clear()

    def rest(self, seconds: float) -> None:
        """Wait until the bell rings, but no longer than this."""
        self._bell.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Wait this long whatever rings, unless the thread is to stop."""
        self._stopping.wait(seconds)

    def ring(self) -> None:
        """Wake the thread from its rest."""
        self._bell.set()

    def stop(self) -> None:
        """Tell the thread to end."""
        self._stopping.set()
        self._bell.set()
        for act in list(self._at_stop):
            act()

    @contextmanager
    def at_stop(self, act: Callable[[], None]) -> Iterator[None]:
        """Have something done as soon as the thread is to end, for what does not hear the bell.

        It may be done twice.
        """
        self._at_stop.append(act)
        try:
            if self.stopping:
                act()
            yield
        finally:
            self._at_stop.remove(act)


class Background:
    """Runs `work` in a daemon thread of its own, at most one in each process."""

    _thread: threading.Thread | None

    def __init__(self, name: str, work: Callable[[Pulse], None]) -> None:
        self._name = name
        self._work = work
        self._adopt()

    @property
    def running(self) -> bool:
        """Say whether the thread runs in this process."""
        return self._pid == os.getpid() and self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self._pid != os.getpid():
            self._adopt()
        with self._lock:
            if not self.running:
                self._pulse = Pulse()
                self._thread = self._new_thread(self._pulse)
                self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop the thread and wait for its end, but no longer than this."""
        with self._lock:
            self._pulse.stop()
            if self._thread is not None and self.running:
                self._thread.join(timeout_s)

    def ring(self) -> None:
        """Wake the thread from its rest."""
        self._pulse.ring()

    def _new_thread(self, pulse: Pulse) -> threading.Thread:
        return threading.Thread(target=self._work, args=(pulse,), name=self._name, daemon=True)

    def _adopt(self) -> None:
        """Begin anew in this process: a fork leaves threads behind, and locks that they held."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pulse = Pulse()
        self._thread = None


class Failures:
    """Failures in a row: each kind is logged once, and each is followed by a longer wait."""

    def __init__(self, logger: logging.Logger, subject: str, max_backoff_s: float) -> None:
        self._logger = logger
        self._subject = subject
        self._max_backoff_s = max_backoff_s
        self._count = 0
        self._last: type[Exception] | None = None

    def note(self, error: Exception) -> float:
        """Count a failure; return how many seconds to wait before the next attempt."""
        if type(error) is not self._last:
            self._log(error)
        self._last = type(error)
        self._count += 1
        return random.uniform(0, min(self._max_backoff_s, 0.1 * 2.0**self._count))

    def end(self) -> None:
        """Note a success."""
        if self._count:
            self._logger.info("%s works again", self._subject, extra={"action": "recovered"})
        self._count = 0
        self._last = None

    def _log(self, error: Exception) -> None:
        expected = isinstance(error, BrokerClientError)
        self._logger.log(
            logging.WARNING if expected else logging.ERROR,
            "%s cannot work and will try again: %s",
            self._subject,
            error,
            exc_info=None if expected else error,
            extra={"action": "failed"},
        )
