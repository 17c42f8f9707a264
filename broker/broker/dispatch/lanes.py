"""Which deliveries may be sent now, so that no two of one key are out at once."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.model import Message


@dataclass(slots=True, eq=False)
class Delivery:
    """A message owed to the subscription and in memory.

    `attempts` have ended without success; `has_row` says whether the store has a row for it.
    """

    message: Message
    attempts: int = 0
    has_row: bool = False


@dataclass(slots=True, eq=False)
class Lane:
    """A key with something out or waiting.

    `out` counts its deliveries that are ready, sent or waiting for a retry. `parked` is set while
    one waits for a retry in the store, and `spilled` while later ones wait there as `held` rows:
    what comes then goes to the store as well, so that a key that waits costs no memory.
    """

    out: int = 0
    parked: bool = False
    spilled: bool = False
    waiting: deque[Delivery] = field(default_factory=deque)


class Lanes:
    """A subscription's lanes. A key has one only while it has something out or waiting."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self.waiting_count = 0

    def __len__(self) -> int:
        return len(self._lanes)

    def restore(self, key: str) -> None:
        """Take over a key whose first owed message waits in the store."""
        self._lanes[key] = Lane(out=1, parked=True, spilled=True)

    def admit(self, key: str, delivery: Delivery) -> Lane | None:
        """Return None if the delivery may go at once, else the lane in which it has to wait."""
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = Lane(out=1)
            return None
        if not lane.spilled:
            lane.waiting.append(delivery)
            self.waiting_count += 1
        return lane

    def follow(self, key: str, limit: int) -> Iterator[Delivery]:
        """Take up to `limit` of those that wait, to go in the same request behind the first."""
        lane = self._lanes[key]
        while lane.waiting and limit > 0:
            limit -= 1
            lane.out += 1
            self.waiting_count -= 1
            yield lane.waiting.popleft()

    def resume(self, key: str) -> None:
        """A parked key's first message is in memory again and about to be sent."""
        self._lanes[key].parked = False

    def park(self, key: str) -> list[Delivery]:
        """A key's message waits for a retry: return what has to go to the store as held."""
        lane = self._lanes[key]
        lane.parked = True
        return self._spill(lane)

    def spill(self, key: str) -> list[Delivery]:
        """A key's request is slow: return what waits behind it, to go to the store."""
        return self._spill(self._lanes[key])

    def unsend(self, key: str) -> None:
        """One of the key's deliveries goes back to the store, behind the one that is parked."""
        self._lanes[key].out -= 1

    def spill_longest(self) -> list[Delivery]:
        """Make room: return what waits in the lane that has most of it, to go to the store."""
        return self._spill(max(self._lanes.values(), key=lambda lane: len(lane.waiting)))

    def _spill(self, lane: Lane) -> list[Delivery]:
        spilled = list(lane.waiting)
        lane.waiting.clear()
        self.waiting_count -= len(spilled)
        lane.spilled = lane.spilled or bool(spilled) or lane.parked
        return spilled

    def settled(self, key: str) -> Delivery | None:
        """One of the key's deliveries is done with: return the one that may go now, if any.

        Where there is none in memory and the lane has spilled, it keeps its place (`wants_held`).
        """
        lane = self._lanes[key]
        lane.out -= 1
        if lane.out or lane.parked:
            return None
        if lane.waiting:
            lane.out = 1
            self.waiting_count -= 1
            return lane.waiting.popleft()
        if not lane.spilled:
            del self._lanes[key]
        return None

    def wants_held(self, key: str) -> bool:
        """Say whether the key's next delivery has to be read from the store."""
        lane = self._lanes.get(key)
        return lane is not None and lane.spilled and not lane.out and not lane.parked

    def refill(self, key: str, deliveries: list[Delivery], more: bool) -> Delivery | None:
        """Put what was read from the store in the key's lane; return the one that may go now."""
        lane = self._lanes[key]
        lane.spilled = more
        lane.waiting.extend(deliveries)
        self.waiting_count += len(deliveries)
        lane.out = 1  # as though one had been out, for `settled` to hand over to the next
        return self.settled(key)
