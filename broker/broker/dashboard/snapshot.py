"""How everything stands, looked at once for all who watch."""

import threading
import time
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from flask import current_app

from broker.control import Bridge, bridge
from broker.overview import Overview, Standing

FRESH_S = 1.0


class Snapshots:
    """Looks when somebody asks, once a second at most, however many ask."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._latest: Overview | None = None
        self._until = 0.0
        self._looking = False

    def latest(self) -> Overview:
        """Return how everything stands; while one looks, the others have what was seen last."""
        with self._lock:
            old = self._latest
            if old is not None and (self._looking or self._monotonic() < self._until):
                return old
            self._looking = True
        try:
            seen = bridge().overview()
        finally:
            with self._lock:
                self._looking = False
        with self._lock:
            self._latest, self._until = seen, self._monotonic() + FRESH_S
        return seen


class SnapshotsByBroker:
    """Snapshots of each broker that the pages are served for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_bridge: WeakKeyDictionary[Bridge, Snapshots] = WeakKeyDictionary()

    def of(self, to: Bridge) -> Snapshots:
        """Return those of the broker behind a bridge."""
        with self._lock:
            return self._by_bridge.setdefault(to, Snapshots())


def latest() -> Overview:
    """Return how everything stands."""
    every: SnapshotsByBroker = current_app.extensions["snapshots"]
    return every.of(bridge()).latest()


def worst_first(standings: Iterable[Standing]) -> list[Standing]:
    """Put what somebody should look at first, then what is owed the most."""
    return sorted(
        standings,
        key=lambda each: (-len(each.troubles), -each.backlog, each.topic, each.name),
    )
