"""How everything stands, as the pages tell of it: in one store, or in all cells of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from broker.history import Rates
from broker.metrics import Measures, SubscriptionMeasures
from broker.store.port import TopicStats
from broker.views import State

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
class Room:
    """What a store takes of its disk, and what is free there, in bytes."""

    file_bytes: int
    wal_bytes: int
    free: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything at a moment, but for the topics of as many cells as are `missing`."""

    topics: Mapping[str, TopicStats]
    standings: Sequence[Standing]
    rates: Rates
    store: Room | None
    missing: int = 0


def overview_of(measures: Measures, rates: Rates) -> Overview:
    """Tell of one store."""
    store = measures.store
    return Overview(
        measures.topics,
        [_standing(each, measures.now) for each in measures.subscriptions],
        rates,
        None if store is None else Room(store.file_bytes, store.wal_bytes, store.free),
    )


def of_all_cells(parts: Mapping[int, Overview], cells: int) -> Overview:
    """Put together what is known of the cells of a store, by their numbers."""
    rooms = [part.store for part in parts.values() if part.store is not None]
    return Overview(
        {name: stats for part in parts.values() for name, stats in part.topics.items()},
        [standing for part in parts.values() for standing in part.standings],
        Rates(
            _added([part.rates.published for part in parts.values()]),
            _added([part.rates.delivered for part in parts.values()]),
            _added([part.rates.failed for part in parts.values()]),
        ),
        _rooms(rooms),
        cells - len(parts),
    )


def _added(rates: Sequence[Sequence[float]]) -> list[float]:
    """Add up rates that end at the same moment, and did not all begin at the same."""
    backwards = zip_longest(*(reversed(each) for each in rates), fillvalue=0.0)
    return [sum(each) for each in backwards][::-1]


def _rooms(rooms: Sequence[Room]) -> Room | None:
    """Add up what cells take. Some are on the same disk: of those that there are, the fullest."""
    if not rooms:
        return None
    return Room(
        sum(room.file_bytes for room in rooms),
        sum(room.wal_bytes for room in rooms),
        min(room.free for room in rooms),
    )


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
