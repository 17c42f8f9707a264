"""How everything stands, looked at once for all who watch."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from flask import current_app

from broker.control import Bridge, bridge
from broker.history import Rates
from broker.metrics import Measures, SubscriptionMeasures
from broker.views import State

FRESH_S = 1.0
OLD_S = 300.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscription in a list. `oldest_s` is the age of the oldest message it is owed."""

    topic: str
    name: str
    state: State
    backlog: int
    oldest_s: float | None
    in_flight: int
    retrying: int
    dead: int
    blocked: int
    no_consent: bool

    @property
    def troubles(self) -> list[str]:
        """What somebody should look at, the worst first."""
        told = {
            "endpoint fails": self.state == "circuit-open",
            "no consent": self.no_consent,
            "blocked": self.blocked > 0,
            "dead letters": self.dead > 0,
            "falls behind": self.oldest_s is not None and self.oldest_s > OLD_S,
            "paused": self.state == "paused",
        }
        return [trouble for trouble, is_so in told.items() if is_so]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at a moment."""

    measures: Measures
    rates: Rates
    standings: tuple[Standing, ...]


class Snapshots:
    """Looks when somebody asks, once a second at most, however many ask."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._latest: Snapshot | None = None
        self._until = 0.0
        self._looking = False

    def latest(self) -> Snapshot:
        """Return how everything stands; while one looks, the others have what was seen last."""
        with self._lock:
            old = self._latest
            if old is not None and (self._looking or self._monotonic() < self._until):
                return old
            self._looking = True
        try:
            seen = _look()
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


def latest() -> Snapshot:
    """Return how everything stands."""
    every: SnapshotsByBroker = current_app.extensions["snapshots"]
    return every.of(bridge()).latest()


def worst_first(standings: Iterable[Standing]) -> list[Standing]:
    """Put what somebody should look at first, then what is owed the most."""
    return sorted(
        standings,
        key=lambda each: (-len(each.troubles), -each.backlog, each.topic, each.name),
    )


def _look() -> Snapshot:
    to = bridge()

    async def looked() -> tuple[Measures, Rates]:
        return await to.broker.measures(), to.broker.history.rates()

    measures, rates = to.wait(looked())
    standings = tuple(_standing(each, measures.now) for each in measures.subscriptions)
    return Snapshot(measures, rates, standings)


def _standing(each: SubscriptionMeasures, now: float) -> Standing:
    rows, oldest = each.standing.rows, each.standing.oldest_unsettled_at
    open_ = each.circuit_open
    return Standing(
        topic=each.topic,
        name=each.name,
        state="paused" if each.paused else "circuit-open" if open_ else "active",
        backlog=each.standing.backlog,
        oldest_s=None if oldest is None else max(0.0, now - oldest),
        in_flight=each.in_flight,
        retrying=rows.get("retry", 0),
        dead=rows.get("dead", 0),
        blocked=rows.get("blocked", 0),
        no_consent=each.no_consent,
    )
