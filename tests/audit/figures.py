"""The count from outside: what was promised, and what came of it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from audit.ledger import Arrival
from audit.publisher import Receipt
from audit.subscriptions import Audited
from e2e.census import Census, story

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Figures:
    """What one promise has come to.

    `expected` messages were to come, and `came` of them did, each counted once; `lost` did not.
    `again` counts what came once more, `doubled` the effects that there are once too often, and
    `reordered` what came before its turn. `allowed` names those of the figures that the promise
    leaves open; the others must be 0. `examples` says what some of the wrong ones are.
    """

    name: str
    promise: str
    expected: int
    came: int
    lost: int = 0
    again: int = 0
    doubled: int = 0
    reordered: int = 0
    unknown: int = 0
    allowed: frozenset[str] = frozenset()
    examples: Sequence[str] = field(default=(), repr=False)

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return not any(getattr(self, name) for name in COUNTS if name not in self.allowed)


COUNTS = ("lost", "again", "doubled", "reordered", "unknown")


def of_log(receipts: Sequence[Receipt], log: Sequence[tuple[int, str]]) -> Figures:
    """Count what the topic's log, pairs of sequence and id, has of what was answered.

    What a publisher publishes with one key stands in that order, unless it was delayed; so the
    receipts must be in the order in which one publisher got them, for each key.
    """
    place = {id: sequence for sequence, id in log}
    answered = [(each.id, each.sequence) for each in receipts if each.sequence is not None]
    ids = {receipt.id for receipt in receipts}
    lost = [receipt.id for receipt in receipts if receipt.id not in place]
    moved = [id for id, sequence in answered if place.get(id, sequence) != sequence]
    last: defaultdict[str, int] = defaultdict(int)
    reordered = []
    for receipt in receipts:
        if receipt.key is None or receipt.delayed or receipt.id not in place:
            continue
        if place[receipt.id] <= last[receipt.key]:
            reordered.append(receipt.id)
        last[receipt.key] = place[receipt.id]
    return Figures(
        name="the log",
        promise="durable, each id once",
        expected=len(ids),
        came=len(ids & place.keys()),
        lost=len(lost) + len(moved),
        doubled=len(log) - len(place),
        reordered=len(reordered),
        unknown=len(place.keys() - ids),
        examples=_examples(("lost", lost), ("moved", moved), ("reordered", reordered)),
    )


def together(figures: Sequence[Figures]) -> Figures:
    """Sum up what one promise has come to in several topics."""
    sums = {
        name: sum(getattr(each, name) for each in figures) for name in ("expected", "came", *COUNTS)
    }
    examples = [example for each in figures for example in each.examples]
    return replace(figures[0], **sums, examples=examples)


def of_subscription(
    audited: Audited, expected: Iterable[str], arrivals: Sequence[Arrival], effects: Sequence[str]
) -> Figures:
    """Count what came of the messages with these ids, in the order in which it came."""
    ids = set(expected)
    taken = Counter(arrival.id for arrival in arrivals if arrival.took)
    came = taken if audited.retried else Counter(arrival.id for arrival in arrivals)
    doubled = [id for id, count in Counter(effects).items() if count > 1]
    lost = sorted(ids - came.keys())
    if audited.receipts:
        lost = sorted(ids - set(effects))
    reordered = list(out_of_order(audited, arrivals))
    again = [id for id, count in came.items() if count > 1]
    return Figures(
        name=audited.name,
        promise=audited.promise,
        expected=len(ids),
        came=len(ids & came.keys()),
        lost=len(lost),
        again=came.total() - len(came),
        doubled=len(effects) - len(set(effects)),
        reordered=len(reordered),
        unknown=len({arrival.id for arrival in arrivals} - ids),
        allowed=frozenset({"again"} if audited.retried else {"lost"}),
        examples=_examples(
            ("lost", lost if audited.retried else []),
            ("again", [] if audited.retried else again),
            ("doubled", doubled),
            ("reordered", reordered),
        ),
    )


def out_of_order(audited: Audited, arrivals: Sequence[Arrival]) -> list[str]:
    """Name the messages that came before an earlier one, of their key or of all, was settled.

    A message may come in one request with an earlier one, behind it; then it may only not take
    effect before that one has. At most once, coming is what settles a message.
    """
    groups: defaultdict[str | None, dict[int, _Course]] = defaultdict(dict)
    for number, arrival in enumerate(arrivals):
        group = None if audited.ordering == "topic" else arrival.key
        if audited.ordering == "key" and arrival.key is None:
            continue
        new = _Course(arrival.id, arrival.request, number)
        course = groups[group].setdefault(arrival.sequence, new)
        course.add(number, arrival, settled=arrival.acknowledged or not audited.retried)

    return [
        later.id
        for courses in groups.values()
        for (_, earlier), (_, later) in pairwise(sorted(courses.items()))
        if later.overtakes(earlier)
    ]


@dataclass(slots=True)
class _Course:
    """One message's way: when it first came, and in which request; took effect; was settled.

    `requests` has the number of its arrival in each request that brought it.
    """

    id: str
    came_in: int
    came_at: int
    requests: dict[int, int] = field(default_factory=dict)
    took_at: int | None = None
    settled_at: int | None = None

    def add(self, number: int, arrival: Arrival, *, settled: bool) -> None:
        """Take in the arrival with this number."""
        self.requests.setdefault(arrival.request, number)
        if self.took_at is None and arrival.took:
            self.took_at = number
        if self.settled_at is None and settled:
            self.settled_at = number

    def overtakes(self, earlier: _Course) -> bool:
        """Say whether this one came, or took effect, before the earlier one allowed it."""
        took, before = self.took_at, earlier.took_at
        if took is not None and before is not None and took < before:
            return True
        if earlier.settled_at is not None and earlier.settled_at < self.came_at:
            return False
        return earlier.requests.get(self.came_in, self.came_at) >= self.came_at


def of_services(answered: Sequence[str], census: Census) -> list[Figures]:
    """Count what became of the orders that customers were told are taken."""
    return [_of_orders(answered, census), _of_shipments(census), _of_news(census)]


def _of_orders(answered: Sequence[str], census: Census) -> Figures:
    told = set(answered)
    lost = sorted(told - set(census.orders))
    return Figures(
        name="orders",
        promise="each answered one is there",
        expected=len(told),
        came=len(told & set(census.orders)),
        lost=len(lost),
        doubled=len(census.orders) - len(set(census.orders)),
        examples=_examples(("lost", lost)),
    )


def _of_shipments(census: Census) -> Figures:
    orders = set(census.orders)
    counts = Counter(order for order, _ in census.shipments)
    lost = sorted(orders - counts.keys())
    doubled = [order for order, count in counts.items() if count > 1]
    return Figures(
        name="shipments",
        promise="exactly once an order",
        expected=len(orders),
        came=len(orders & counts.keys()),
        lost=len(lost),
        doubled=counts.total() - len(counts),
        unknown=len(counts.keys() - orders),
        examples=_examples(("lost", lost), ("doubled", doubled)),
    )


def _of_news(census: Census) -> Figures:
    """Count the notifications: order holds within the shipment's topic."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    for order, kind in census.news:
        told[order].append(kind)
    expected_count = 0
    lost, doubled, reordered = Counter[str](), Counter[str](), []
    for order, status in dict(census.shipments).items():
        of_order, of_shipment = story(status)
        expected, found = Counter(of_order + of_shipment), Counter(told[order])
        expected_count += expected.total()
        lost[order] = (expected - found).total()
        doubled[order] = (found - expected).total()
        first = [kind for kind in dict.fromkeys(told[order]) if kind in of_shipment]
        if first != [kind for kind in of_shipment if kind in first]:
            reordered.append(order)
    return Figures(
        name="notifications",
        promise="exactly once a message, by key",
        expected=expected_count,
        came=expected_count - lost.total(),
        lost=lost.total(),
        doubled=doubled.total(),
        reordered=len(reordered),
        unknown=len(told.keys() - set(census.orders)),
        examples=_examples(
            ("lost", list(+lost)), ("doubled", list(+doubled)), ("reordered", reordered)
        ),
    )


def _examples(*kinds: tuple[str, Sequence[str]]) -> list[str]:
    return [f"{kind}: {', '.join(ids[:SHOWN])}" for kind, ids in kinds if ids]
