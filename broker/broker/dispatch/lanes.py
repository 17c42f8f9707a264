"""Which deliveries may be sent now, so that no two of one key are out at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from msgspec import Struct

from broker.model import Message, RowState

PARKED_KEPT = 100_000


class Delivery(Struct, eq=False, gc=False):
    """A message owed to the subscription and in memory.

    `attempts` have ended without success; `row` is the state of its row in the store, and
    `replayed_at` when it was made owed again by a replay or a seek, in Unix seconds.
    """

    message: Message
    attempts: int = 0
    row: RowState | None = None
    replayed_at: float | None = None


@dataclass(slots=True, eq=False)
class Lane:
    """A key with something in memory.

    `out` counts its deliveries that are ready or sent. `spilled` is set while later ones wait in
    the store as `held` rows: what comes then goes to the store as well. `overtaken` is set while
    earlier ones may wait there, which were replayed meanwhile.
    """

    out: int = 0
    spilled: bool = False
    overtaken: bool = False
    waiting: deque[Delivery] = field(default_factory=deque)


class Lanes:
    """A subscription's lanes. A key has one only while it has something in memory.

    A key whose first owed message waits in the store is parked: what comes goes to the store too.
    Only the last `kept` parked keys are known here; once there have been more, `forgetful` says
    that the store has to be asked about any other key.
    """

    def __init__(self, kept: int | None = None) -> None:
        self._lanes: dict[str, Lane] = {}
        self._parked: dict[str, None] = {}
        self.kept = PARKED_KEPT if kept is None else kept
        self.waiting_count = 0
        self.forgetful = False

    def __len__(self) -> int:
        return len(self._lanes) + len(self._parked)

    def restore(self, keys: Iterable[str]) -> None:
        """Take over keys whose first owed message waits in the store."""
        for key in keys:
            if key not in self._lanes:
                self._park(key)

    def knows(self, key: str) -> bool:
        """Say whether anything of the key is known here."""
        return key in self._lanes or key in self._parked

    def in_memory(self) -> frozenset[str]:
        """Return the keys that have something in memory, or are about to read on in the store."""
        return frozenset(self._lanes)

    def continue_in_store(self) -> list[str]:
        """Have every key that has something in memory look in the store next; return those keys."""
        for lane in self._lanes.values():
            lane.spilled = lane.overtaken = True
        return list(self._lanes)

    def overtaken(self, key: str) -> bool:
        """Say whether what is out of the key may have earlier ones in the store."""
        lane = self._lanes.get(key)
        return lane is not None and lane.overtaken

    def occupy(self, key: str) -> None:
        """Something of the key is out that these lanes did not send."""
        self._lanes.setdefault(key, Lane()).out += 1

    def admit(self, key: str, delivery: Delivery) -> bool | None:
        """Return True if the delivery may go at once, None if it waits, False if in the store."""
        lane = self._lanes.get(key)
        if lane is None:
            if key in self._parked:
                return False
            self._lanes[key] = Lane(out=1)
            return True
        if lane.spilled:
            return False
        lane.waiting.append(delivery)
        self.waiting_count += 1
        return None

    def follow(self, key: str, limit: int) -> Iterator[Delivery]:
        """Take up to `limit` of those that wait, to go in the same request behind the first."""
        lane = self._lanes[key]
        while lane.waiting and limit > 0:
            limit -= 1
            lane.out += 1
            self.waiting_count -= 1
            yield lane.waiting.popleft()

    def unfollow(self, key: str, deliveries: list[Delivery]) -> None:
        """Those that went behind the key's first wait again, before all others."""
        lane = self._lanes[key]
        lane.out -= len(deliveries)
        lane.waiting.extendleft(reversed(deliveries))
        self.waiting_count += len(deliveries)

    def resume(self, key: str) -> bool:
        """A parked key's first message is in memory again and about to be sent.

        Returns False, and changes nothing but that the key looks in the store next, where something
        of the key is out.
        """
        lane = self._lanes.setdefault(key, Lane())
        lane.spilled = True
        if lane.out:
            return False
        self._parked.pop(key, None)
        lane.out = 1
        return True

    def park(self, key: str) -> list[Delivery]:
        """A key's first message waits in the store: return what has to go there as well."""
        lane = self._lanes.pop(key, None)
        self._park(key)
        return self._spill(lane) if lane is not None else []

    def _park(self, key: str) -> None:
        self._parked[key] = None
        if len(self._parked) > self.kept:
            del self._parked[next(iter(self._parked))]
            self.forgetful = True

    def unpark(self, key: str) -> None:
        """A parked key's first message is done with: the key wants what is held behind it."""
        self._parked.pop(key, None)
        self._lanes.setdefault(key, Lane()).spilled = True

    def spill(self, key: str) -> list[Delivery]:
        """A key's request is slow: return what waits behind it, to go to the store."""
        return self._spill(self._lanes[key])

    def spill_longest(self) -> list[Delivery]:
        """Make room: return what waits in the lane that has most of it, to go to the store."""
        return self._spill(max(self._lanes.values(), key=lambda lane: len(lane.waiting)))

    def spill_half(self) -> list[Delivery]:
        """Make much room: return half of what waits, of the longest lanes, to go to the store."""
        most_left = self.waiting_count // 2
        spilled: list[Delivery] = []
        for lane in sorted(self._lanes.values(), key=lambda lane: -len(lane.waiting)):
            if self.waiting_count <= most_left:
                break
            spilled += self._spill(lane)
        return spilled

    def spill_all(self) -> list[Delivery]:
        """Return all that waits, to go to the store."""
        return [delivery for lane in self._lanes.values() for delivery in self._spill(lane)]

    def give_up(self, old: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out and return those that wait and are old."""
        given_up: list[Delivery] = []
        for lane in self._lanes.values():
            found = [delivery for delivery in lane.waiting if old(delivery)]
            if found:
                lane.waiting = deque(each for each in lane.waiting if not old(each))
                self.waiting_count -= len(found)
                given_up += found
        return given_up

    def _spill(self, lane: Lane) -> list[Delivery]:
        spilled = list(lane.waiting)
        lane.waiting.clear()
        self.waiting_count -= len(spilled)
        lane.spilled = lane.spilled or bool(spilled)
        return spilled

    def settled(self, key: str) -> Delivery | None:
        """One of the key's deliveries is done with: return the one that may go now, if any.

        Where there is none in memory and the lane has spilled, it keeps its place (`wants_held`).
        """
        lane = self._lanes.get(key)
        if lane is None:
            return None  # parked meanwhile
        lane.out -= 1
        if lane.out > 0:
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
        return lane is not None and lane.spilled and not lane.out

    def refill(self, key: str, deliveries: list[Delivery], more: bool) -> Delivery | None:
        """Put what was read from the store in the key's lane; return the one that may go now."""
        lane = self._lanes[key]
        lane.spilled, lane.overtaken = more, False
        lane.waiting.extend(deliveries)
        self.waiting_count += len(deliveries)
        lane.out = 1  # as though one had been out, for `settled` to hand over to the next
        return self.settled(key)
