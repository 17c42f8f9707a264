"""Taking deliveries from the store into memory, in the order of the subscription."""

from collections.abc import Callable, Collection, Sequence
from itertools import takewhile

from broker.dispatch.lanes import Delivery
from broker.dispatch.ledger import Ledger
from broker.dispatch.memory import Memory
from broker.dispatch.settlement import Settlement, from_row
from broker.model import Message, size_of
from broker.store.port import PAGE_BYTES, Due, Lease, Shard

PAGE = 256
TURN = 1024


class Intake:
    """Takes what is due, what is next of a key, and what is new.

    `room` tells how many more messages could be sent at once, and `full` that the messages in
    memory have as many bytes as they may; `has_more`, that the last look ended before the end, and
    found nothing that is wanted so far. Outcomes come in at every await: what they put is not in
    the store yet when it is read, so that what they say of the next time and of the barrier is
    added to what is read there.
    """

    def __init__(
        self,
        shard: Shard,
        ledger: Ledger,
        memory: Memory,
        settlement: Settlement,
        now: Callable[[], float],
        room: Callable[[], int],
        full: Callable[[], bool],
    ) -> None:
        self._shard = shard
        self._ledger = ledger
        self._memory = memory
        self._settlement = settlement
        self._now = now
        self._room = room
        self._full = full
        self._covered_until = shard.covered_until
        self.has_more = False

    async def restore(self) -> None:
        """Take over what waits in the store, with nothing in memory."""
        memory, ordering = self._memory, self._settlement.subscription.ordering
        memory.begin(ordering)
        await self._cover()
        await self._shard.regroup(ordering)
        await self.look_again()

    async def _cover(self) -> None:
        """Give rows to what was in memory when the last owner ended, in front of later rows.

        Else what waits in the store for one of those would go first.
        """
        shard = self._shard
        while shard.fetched < self._covered_until:
            messages = await shard.fetch(PAGE)
            if not messages and not shard.behind():
                break
            for delivery in self._new(messages):
                self._ledger.put(delivery, "held")
            self._ledger.commit()
        self._covered_until = 0

    async def look_again(self) -> None:
        """Learn anew which keys wait in the store, and when the first row is due."""
        if self._memory.ordering == "key":
            lanes = self._memory.lanes
            # A row may go while it is read: what ends meanwhile leaves nobody to free its key.
            self._ledger.commit()
            known = lanes.in_memory()
            found = await self._shard.waiting_keys(lanes.kept + 1)
            lanes.restore(key for key in found if key not in known)
        await self._look_at_due()

    async def _look_at_due(self) -> None:
        self._ledger.commit()
        self._memory.look_at_store()
        skip = frozenset(self._ledger.in_memory)
        if self._memory.ordering == "topic":
            self._bar(await self._shard.owed(1, skip), await self._shard.leases())
        else:
            self._memory.due(await self._shard.next_due_at(skip))

    def _bar(self, rows: Sequence[Due], leases: Sequence[Lease]) -> None:
        """Let nothing of an ordered topic pass its first rows, nor anything what is leased."""
        if leases:
            self._memory.lease(min(lease.until for lease in leases))
        else:
            self._memory.bar(rows)

    def wants_due(self) -> bool:
        """Say whether a row that is due could be taken now."""
        if self._memory.ordering == "topic":
            return not self._memory.sendable()
        return self._room() > 0 and not self._full()

    def _make_room(self) -> bool:
        """Have what waits go to the store as long as memory is full; say whether there is room."""
        self._ledger.commit()
        while self._full() and self._memory.lanes.waiting_count:
            self._ledger.hold(self._memory.lanes.spill_half())
            self._ledger.commit()
        return not self._full()

    async def take(self) -> None:
        """Take as much as there is room for."""
        now, due_at = self._now(), self._memory.next_due_at
        if due_at is not None and due_at <= now:
            if self._full() and self._room() > 0:
                self._make_room()
            if self.wants_due():
                if self._memory.ordering == "topic":
                    await self._take_owed(now)
                else:
                    await self._take_due(now)
        await self._take_wanted()
        await self._take_new()

    async def _take_due(self, now: float) -> None:
        self._ledger.commit()
        skip = frozenset(self._ledger.in_memory)
        found = await self._shard.due(now, self._room(), skip)
        lapsed = [due for due in found if due.row.state == "leased"]
        if lapsed:
            await self._lapse(lapsed)
        for due in found:
            if due.row.state == "retry":
                delivery = self._from_row(due)
                if not self._memory.come_back(delivery):
                    self._ledger.put(delivery, "held", reason=due.row.reason)
        await self._look_at_due()

    async def _take_owed(self, now: float) -> None:
        """Take an ordered topic's first rows: what waits in front of them bars all behind."""
        self._ledger.commit()
        self._memory.look_at_store()
        size = self._settlement.subscription.request_size()
        leases = await self._shard.leases()
        if any(lease.until <= now for lease in leases):
            await self.end_lapsed(leases)
            await self._look_at_due()
            return
        rows = await self._shard.owed(size + 1, frozenset(self._ledger.in_memory))
        if leases:
            self._bar(rows, leases)
            return
        count = 0
        while count < min(size, len(rows)) and _is_due(rows[count], now):
            count += 1
        self._memory.come_first([self._from_row(due) for due in rows[:count]])
        if count < len(rows):
            self._memory.bar(rows[count:])
        else:
            await self._look_at_due()  # the page may have ended early

    async def end_lapsed(self, leases: Sequence[Lease]) -> None:
        """Count leases that have lapsed as failed attempts, in an order of its own if need be."""
        now = self._now()
        ended = [lease.seq for lease in leases if lease.until <= now]
        for start in range(0, len(ended), PAGE):
            if lapsed := await self._shard.leased_among(ended[start : start + PAGE]):
                await self._lapse(list(lapsed.values()))
                self._ledger.commit()

    async def _lapse(self, rows: Sequence[Due]) -> None:
        """Leases have ended without a verdict: failed attempts."""
        behind = await self.behind(rows)
        self._settlement.conclude(rows, self._settlement.lapsed(rows), behind)

    async def behind(self, rows: Sequence[Due]) -> Collection[str]:
        """Return the keys, held in order, of which an earlier one than these rows is owed."""
        keys = {due.row.key for due in rows} - {None}
        if not keys or self._memory.ordering != "key":
            return ()
        seqs = {due.row.seq for due in rows}
        firsts = await self._shard.firsts([key for key in keys if key is not None])
        return {key for key, first in firsts.items() if first not in seqs}

    async def _take_wanted(self) -> None:
        """Read on for keys whose next message waits in the store."""
        memory, now = self._memory, self._now()
        # What is pulled is leased, and a lease sends what waits behind it back to the store.
        page = 1 if self._settlement.subscription.endpoint is None else PAGE
        while memory.wanting:
            if self._full() and not self._make_room():
                return
            key = memory.wanting.pop()
            if not memory.lanes.wants_held(key):
                continue
            self._ledger.commit()
            rows = await self._shard.held(key, 0, page)
            if not rows and await self._shard.first_of(key) is not None:
                memory.lanes.park(key)  # it is leased, or one that is blocked comes first
                continue
            more = len(rows) == page or sum(size_of(due.message) for due in rows) >= PAGE_BYTES
            due = list(takewhile(lambda row: row.row.due_at <= now, rows))
            if rows and not due:
                self._leave_until_due(rows[0])
                continue
            deliveries = [self._from_row(row) for row in due]
            first = memory.lanes.refill(key, deliveries, more or len(due) < len(rows))
            if first is not None:
                memory.ready.append(first)
            if memory.lanes.wants_held(key):
                memory.wanting.append(key)

    def _leave_until_due(self, due: Due) -> None:
        """Have a key wait for its first: it failed before it came to stand behind another."""
        delivery = from_row(due)
        self._ledger.put(delivery, "retry", due.row.due_at, due.row.reason)
        self._ledger.hold(self._memory.wait_in_store(delivery, due.row.due_at))

    async def _take_new(self) -> None:
        memory, shard, ledger = self._memory, self._shard, self._ledger
        looked, self.has_more = 0, False
        while shard.behind() and (room := self._room()) > 0:
            if looked >= TURN:  # what goes to the store takes no room: let others have a turn
                self.has_more = True
                shard.bell.set()
                return
            if not shard.room():
                ledger.commit()  # the shard has room again for what is done with or has a row
                if not shard.room() and memory.lanes.waiting_count:
                    ledger.hold(memory.lanes.spill_longest())
                    ledger.commit()
            if self._full() and not self._make_room():
                return
            messages = await shard.fetch(room)
            if not messages:
                self.has_more = shard.behind()
                return
            looked += len(messages)
            forgotten = await self._forgotten(messages) if memory.lanes.forgetful else ()
            new = self._new(messages)
            if forgotten:
                ledger.hold(each for each in new if each.message.key in forgotten)
                new = [each for each in new if each.message.key not in forgotten]
            ledger.hold(memory.admit(new))

    async def _forgotten(self, messages: Sequence[Message]) -> Collection[str]:
        """Ask the store which keys of these messages wait there, unknown to the lanes."""
        keys = {message.key for message in messages if message.key is not None}
        unknown = [key for key in keys if not self._memory.lanes.knows(key)]
        if not unknown or self._memory.ordering != "key":
            return ()
        self._ledger.commit()
        return frozenset(await self._shard.waiting_among(unknown))

    def _new(self, messages: Sequence[Message]) -> list[Delivery]:
        until = self._shard.replay_until
        if not messages or messages[0].seq > until:
            return [Delivery(message) for message in messages]
        now = self._now()
        return [
            Delivery(message, replayed_at=now if message.seq <= until else None)
            for message in messages
        ]

    def _from_row(self, due: Due) -> Delivery:
        delivery = from_row(due)
        self._ledger.enter(delivery)
        return delivery


def _is_due(due: Due, now: float) -> bool:
    return due.row.state == "retry" and due.row.due_at <= now
