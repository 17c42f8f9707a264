"""What of a shard is in memory, and what waits in the store before it may be sent."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter

from broker.dispatch.lanes import Delivery, Lanes
from broker.store.port import Due, Lease

BEFORE_ALL = 0  # a seq that none has

_seq = attrgetter("message.seq")

# What the messages of one subscription may take up, and at least this; and those of all together.
MOST_BYTES = 32 * 1024 * 1024
LEAST_BYTES = 2 * 1024 * 1024
ALL_BYTES = 256 * 1024 * 1024


def share_of(subscriptions: int) -> int:
    """Return how many bytes of messages each of so many subscriptions may have in memory."""
    return max(LEAST_BYTES, min(MOST_BYTES, ALL_BYTES // max(subscriptions, 1)))


class Memory:
    """Deliveries in memory, in the order of the subscription.

    `ready` may be sent, in this order; `wanting` are keys whose next delivery waits in the store;
    `next_due_at` is when the first row there is due. Where the whole topic is one sequence,
    `barrier` is the first seq that waits in the store, or one before all while something is leased:
    nothing behind it is sent. `leases` were
    out at a seek, the first to lapse first.
    """

    def __init__(self, ordering: str) -> None:
        self.begin(ordering)

    def begin(self, ordering: str) -> None:
        """Forget everything, and keep this order from now on."""
        self.ordering = ordering
        self.ready: deque[Delivery] = deque()
        self.lanes = Lanes()
        self.wanting: list[str] = []
        self.next_due_at: float | None = None
        self.barrier: int | None = None
        self.leases: deque[Lease] = deque()

    def all(self) -> list[Delivery]:
        """Take everything out of memory."""
        ready, self.ready = list(self.ready), deque()
        return [*ready, *self.lanes.spill_all()]

    def lane_of(self, delivery: Delivery) -> str | None:
        """Return the key that holds the delivery in order, if one does."""
        return delivery.message.key if self.ordering == "key" else None

    def admit(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Take new deliveries; return those that have to wait in the store instead."""
        if self.ordering != "key":
            self.ready += deliveries
            return []
        refused: list[Delivery] = []
        for delivery in deliveries:
            key = delivery.message.key
            admitted = True if key is None else self.lanes.admit(key, delivery)
            if admitted:
                self.ready.append(delivery)
            elif admitted is False:
                refused.append(delivery)
        return refused

    def come_back(self, delivery: Delivery) -> bool:
        """Take a delivery whose row was due; return False if it has to wait for its key."""
        key = self.lane_of(delivery)
        if key is not None and not self.lanes.resume(key):
            return False
        self.ready.append(delivery)
        return True

    def take_back(self) -> list[Delivery]:
        """Take out of memory what is ready and has a key, its key being parked."""
        keyed = [each for each in self.ready if self.lane_of(each) is not None]
        self.ready = deque(each for each in self.ready if self.lane_of(each) is None)
        return keyed

    def give_up(self, old: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out of memory what is old, and return it; nothing of it is out."""
        given_up = self.lanes.give_up(old)
        found = [delivery for delivery in self.ready if old(delivery)]
        if found:
            self.ready = deque(each for each in self.ready if not old(each))
            self.release(found)
        return given_up + found

    def come_first(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries of an ordered topic whose rows were due."""
        if deliveries:
            self.ready = deque(sorted((*deliveries, *self.ready), key=_seq))

    def sendable(self) -> bool:
        """Say whether the first ready delivery may be sent."""
        if not self.ready or (self.leases and self.ordering == "topic"):
            return False
        return self.barrier is None or self.ready[0].message.seq < self.barrier

    def take(self, size: int) -> list[Delivery]:
        """Take what goes into one request; later ones of a key may go behind its first."""
        ready = self.ready
        if self.ordering == "none":
            batch = [ready.popleft() for _ in range(min(size, len(ready)))]
        else:
            batch = []
            while len(batch) < size and self.sendable():
                delivery = ready.popleft()
                batch.append(delivery)
                key = self.lane_of(delivery)
                if key is not None and len(batch) < size:
                    batch.extend(self.lanes.follow(key, size - len(batch)))
        if len(batch) > 1:
            batch.sort(key=_seq)
        return batch

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Take back what was in a request that has no outcome, to be sent before all else."""
        firsts: list[Delivery] = []
        following: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            key = self.lane_of(delivery)
            if key is None:
                firsts.append(delivery)
            elif key in following:
                following[key].append(delivery)
            else:
                following[key] = []
                firsts.append(delivery)
        for key, behind in following.items():
            self.lanes.unfollow(key, behind)
        self.ready.extendleft(reversed(firsts))

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Deliveries are done with: let the next ones of their keys go."""
        if self.ordering != "key":
            return
        for delivery in deliveries:
            if (key := delivery.message.key) is not None:
                self._release(key)

    def _release(self, key: str) -> None:
        following = self.lanes.settled(key)
        if following is not None:
            self.ready.append(following)
        elif self.lanes.wants_held(key):
            self.wanting.append(key)

    def free(self, key: str | None) -> None:
        """A first row in the store is done with: let what waits behind it go."""
        if self.ordering == "topic":
            self.next_due_at = 0.0  # look again at what comes first now
        elif key is not None and self.ordering == "key":
            self.lanes.unpark(key)
            if self.lanes.wants_held(key):
                self.wanting.append(key)

    def wait_in_store(self, delivery: Delivery, due_at: float | None) -> list[Delivery]:
        """A delivery goes to the store and its key waits for it; return what has to go as well."""
        seq = delivery.message.seq
        self.due(due_at)
        if self.ordering == "topic":
            self.barrier = seq if self.barrier is None else min(self.barrier, seq)
        key = self.lane_of(delivery)
        return self.lanes.park(key) if key is not None else []

    def lease(self, until: float) -> None:
        """Something in the store is leased: of an ordered topic nothing is sent until that ends."""
        if self.ordering == "topic":
            self.barrier = BEFORE_ALL
        self.due(until)

    def due(self, at: float | None) -> None:
        """A row in the store is due at this time."""
        if at is not None and (self.next_due_at is None or at < self.next_due_at):
            self.next_due_at = at

    def look_at_store(self) -> None:
        """What is known of rows in the store is about to be read anew."""
        self.next_due_at = self.barrier = None

    def bar(self, rows: Sequence[Due]) -> None:
        """Let nothing of an ordered topic pass the first of these rows, which wait in the store."""
        if rows:
            first = rows[0].row
            self.barrier = first.seq if self.barrier is None else min(self.barrier, first.seq)
            self.due(first.due_at if first.state != "blocked" else None)

    def seek(self, out: Iterable[Delivery], leases: Iterable[Lease]) -> None:
        """Forget everything but that the keys of what is out, or leased, are taken."""
        leases = [*self.leases, *leases]  # those of before an earlier seek as well
        self.begin(self.ordering)
        for delivery in out:
            key = self.lane_of(delivery)
            if key is not None:
                self.lanes.occupy(key)
        if self.ordering == "none":
            return
        self.leases = deque(sorted(leases, key=lambda lease: lease.until))
        for lease in self.leases:
            if lease.key is not None and self.ordering == "key":
                self.lanes.occupy(lease.key)

    def end_leases(self, now: float, seqs: Collection[int] = ()) -> None:
        """Let the keys go whose leases from before a seek have lapsed, and those of `seqs`."""
        if not self.leases or (self.leases[0].until > now and not seqs):
            return
        ended: list[Lease] = []
        kept: deque[Lease] = deque()
        for lease in self.leases:
            (ended if lease.until <= now or lease.seq in seqs else kept).append(lease)
        self.leases = kept
        for lease in ended:
            if lease.key is not None and self.ordering == "key":
                self._release(lease.key)
