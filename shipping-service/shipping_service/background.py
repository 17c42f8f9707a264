"""Work beside the requests: named threads that start and stop with the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import Protocol

log = logging.getLogger(__name__)

AFTER_FAILURE_S = 1.0
STOP_S = 5.0


class Background(Protocol):
    """Something that works beside the requests."""

    def start(self) -> object:
        """Begin; a second call does nothing."""

    def stop(self) -> object:
        """End, and return once nothing of it runs any more."""


class Loop:
    """A thread that takes one step after another; a step returns the seconds until the next."""

    def __init__(self, name: str, step: Callable[[], float]) -> None:
        self._name = name
        self._step = step
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin; a second call does nothing."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the step under way end, and take no other."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self._take_step())

    def _take_step(self) -> float:
        try:
            return self._step()
        except Exception:
            log.exception("%s failed; next try in %s s", self._name, AFTER_FAILURE_S)
            return AFTER_FAILURE_S
