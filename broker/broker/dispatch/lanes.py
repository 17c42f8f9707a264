"""Which deliveries may be sent now, so that no two of one lane are out at once."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.model import Message, RowState


@dataclass(slots=True, eq=False)
class Delivery:
    """A message owed to the subscription and in memory.

    `lane` is what it keeps its order in, None where it keeps none. `attempts` have ended without
    success, the last one for `reason`. `row` is the state of its row, None where it has none.
    """

    message: Message
    lane: str | None
    attempts: int = 0
    row: RowState | None = None
    reason: str = ""


@dataclass(slots=True, eq=False)
class Lane:
    """Deliveries that keep their order: those that are out, then those that wait, then the store's.

    `out` are ready or in the one request that is out. `parked` says that the first one waits for a
    retry in the store, and `spilled` that later ones wait there as `held` rows: what comes then
    goes to the store as well, so that a lane that waits costs no memory.
    """

    out: list[Delivery] = field(default_factory=list)
    parked: bool = False
    spilled: bool = False
    waiting: deque[Delivery] = field(default_factory=deque)


class Lanes:
    """A subscription's lanes. There is one only while it has something out or waiting."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self.waiting_count = 0

    def __len__(self) -> int:
        return len(self._lanes)

    def restore(self, name: str) -> None:
        """Take over a lane whose first owed message waits in the store."""
        self._lanes[name] = Lane(parked=True, spilled=True)

    def admit(self, name: str, delivery: Delivery) -> Lane | None:
        """Return None if the delivery may go at once, else the lane in which it has to wait."""
        lane = self._lanes.get(name)
        if lane is None:
            self._lanes[name] = Lane([delivery])
            return None
        if not lane.spilled:
            lane.waiting.append(delivery)
            self.waiting_count += 1
        return lane

    def out(self, name: str) -> Sequence[Delivery]:
        """Return the lane's deliveries that are ready or in a request, in order."""
        return self._lanes[name].out

    def follow(self, name: str, limit: int) -> list[Delivery]:
        """Take up to `limit` of those that wait, to go in the same request behind the first."""
        lane = self._lanes[name]
        followers = [lane.waiting.popleft() for _ in range(min(limit, len(lane.waiting)))]
        lane.out += followers
        self.waiting_count -= len(followers)
        return followers

    def unfollow(self, name: str) -> None:
        """A request ended without an outcome: all but the lane's first wait again."""
        lane = self._lanes[name]
        followers = lane.out[1:]
        del lane.out[1:]
        lane.waiting.extendleft(reversed(followers))
        self.waiting_count += len(followers)

    def settled(self, name: str) -> Delivery | None:
        """The first that is out is done with: return the one that may go now, if any.

        Where there is none in memory and the lane has spilled, it keeps its place (`wants_held`).
        """
        lane = self._lanes[name]
        del lane.out[0]
        return self._next(name, lane)

    def park(self, name: str) -> list[Delivery]:
        """All that are out go to the store: return what waits behind them and has to go as well."""
        lane = self._lanes[name]
        lane.out.clear()
        lane.parked = lane.spilled = True
        return self._spill(lane)

    def resume(self, name: str, delivery: Delivery) -> None:
        """A parked lane's first message is in memory again and about to be sent."""
        lane = self._lanes[name]
        lane.parked = False
        lane.out.append(delivery)

    def longest(self) -> str:
        """Return the lane in which most deliveries wait in memory."""
        return max(self._lanes, key=lambda name: len(self._lanes[name].waiting))

    def spill(self, name: str) -> list[Delivery]:
        """Return what waits in memory, to wait in the store.

        What is out needs a row then as well: after a crash a lane begins with its first row.
        """
        return self._spill(self._lanes[name])

    def in_store(self, name: str) -> bool:
        """Say whether any of the lane waits in the store."""
        lane = self._lanes.get(name)
        return lane is not None and lane.spilled

    def memory_count(self, name: str) -> int:
        """Count the lane's deliveries in memory."""
        lane = self._lanes.get(name)
        return 0 if lane is None else len(lane.out) + len(lane.waiting)

    def wants_held(self, name: str) -> bool:
        """Say whether what waits in the store comes next."""
        lane = self._lanes.get(name)
        return lane is not None and lane.spilled and not lane.parked and not lane.waiting

    def last_seq(self, name: str) -> int:
        """Return the sequence after which the store's part of a lane begins."""
        lane = self._lanes[name]
        return max((delivery.message.seq for delivery in (*lane.out, *lane.waiting)), default=0)

    def refill(self, name: str, deliveries: Sequence[Delivery], more: bool) -> Delivery | None:
        """Take what was read from the store; return the one that may go now, if any."""
        lane = self._lanes[name]
        lane.spilled = more
        lane.waiting.extend(deliveries)
        self.waiting_count += len(deliveries)
        return self._next(name, lane)

    def _next(self, name: str, lane: Lane) -> Delivery | None:
        if lane.out or lane.parked:
            return None
        if lane.waiting:
            lane.out.append(lane.waiting.popleft())
            self.waiting_count -= 1
            return lane.out[0]
        if not lane.spilled:
            del self._lanes[name]
        return None

    def _spill(self, lane: Lane) -> list[Delivery]:
        spilled = list(lane.waiting)
        lane.waiting.clear()
        self.waiting_count -= len(spilled)
        lane.spilled = lane.spilled or bool(spilled)
        return spilled
