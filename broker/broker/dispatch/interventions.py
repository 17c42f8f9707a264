"""What people and endpoints ask of a shard besides publishing: seeks, replays, late verdicts.

Each runs in the pump's task between two turns, and is on disk when it returns.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Literal, Protocol

from broker.ack_urls import Claim
from broker.dispatch.intake import Intake
from broker.dispatch.lanes import Delivery
from broker.dispatch.ledger import Ledger
from broker.dispatch.memory import Memory
from broker.dispatch.policy import Ack, Decision
from broker.dispatch.settlement import Settlement, from_row
from broker.dispatch.verdicts import LateVerdict
from broker.model import Conclusion
from broker.store.port import Due, Shard

BY_REQUEST = "given up by request"
TOO_OLD = "too_old"
GIVEN_UP_AT_ONCE = 500
SETTLED_AT_ONCE = 500


class Sent(Protocol):
    """A request that is out."""

    deliveries: Sequence[Delivery]
    settled: bool
    void: bool
    verdict: LateVerdict | None
    extended_s: float | None


class Requests(Protocol):
    """The pump, as far as interventions concern it."""

    def sent(self) -> Sequence[Sent]:
        """Return the requests that are out."""


class Interventions:
    """The acts on one shard."""

    def __init__(
        self,
        requests: Requests,
        intake: Intake,
        shard: Shard,
        ledger: Ledger,
        memory: Memory,
        settlement: Settlement,
        now: Callable[[], float],
    ) -> None:
        self._requests = requests
        self._intake = intake
        self._shard = shard
        self._ledger = ledger
        self._memory = memory
        self._settlement = settlement
        self._now = now

    async def seek(self, position: int) -> None:
        """Begin again after `position`; what is out or leased ends, and its outcome is ignored."""
        leases = await self._shard.leases()
        out: list[Delivery] = []
        for sent in self._requests.sent():
            sent.settled = sent.void = True
            out += sent.deliveries
        self._memory.seek(out, leases)
        self._ledger.forget()
        await self._shard.seek(position)

    async def with_position(self, write: Callable[[], Awaitable[None]]) -> None:
        """Have the position pass all that was handed out so far, then write what goes with it."""
        self._settlement.let_position_pass(self._owed())
        self._ledger.commit()
        await write()

    async def replay(self, seqs: Sequence[int] | None) -> int:
        """Make dead letters, all for None, owed again ahead of what is not sent; say how many."""
        busy = None
        if self._memory.ordering == "key":
            for delivery in self._memory.take_back():  # not sent yet: it comes behind them
                self._ledger.put(delivery, "retry")
                self._ledger.hold(self._memory.lanes.park(str(delivery.message.key)))
            self._ledger.hold(self._memory.lanes.spill_all())
            busy = self._memory.lanes.continue_in_store()
            self._ledger.commit()
        count = await self._shard.replay(seqs, busy, self._now())
        await self._intake.look_again()
        return count

    async def retry_now(self, seq: int) -> bool | None:
        """Have a blocked or retrying delivery attempted now.

        Returns None where there is no such row, False where it is in another state.
        """
        due = await self._waiting(seq)
        if not isinstance(due, Due):
            return due
        now = self._now()
        if await self._intake.behind([due]):
            self._ledger.put(from_row(due), "held", now, due.row.reason)
            self._memory.free(due.row.key)
        else:
            self._ledger.put(from_row(due), "retry", now, due.row.reason)
            self._memory.due(now)
        await self._durable()
        return True

    async def give_up(self, seq: int) -> bool | None:
        """Make a dead letter of a blocked or retrying delivery; returns as `retry_now` does."""
        due = await self._waiting(seq)
        if not isinstance(due, Due):
            return due
        reason = f"{due.row.reason}; {BY_REQUEST}" if due.row.reason else BY_REQUEST
        self._ledger.put(from_row(due), "dead", reason=reason)
        self._memory.free(due.row.key)
        await self._durable()
        return True

    async def give_up_before(self, seq: int, since: float) -> int:
        """Make dead letters of what has been owed too long, some at a time; say of how many.

        That is what has a smaller seq. Attempts that are out, or wait for a verdict, are left to
        end; what was replayed counts as owed since it was, and is given up if that was before
        `since`.
        """
        count = await self._give_up_in_memory(seq, since)
        skip = frozenset(self._ledger.in_memory)
        in_store, keys = await self._shard.give_up(
            seq, since, skip, TOO_OLD, GIVEN_UP_AT_ONCE, self._now()
        )
        for key in keys or (None,):
            self._memory.free(key)
        await self._intake.look_again()
        return count + in_store

    async def _give_up_in_memory(self, before: int, since: float) -> int:
        def old(delivery: Delivery) -> bool:
            spared = delivery.row is not None and (delivery.replayed_at or 0.0) >= since
            return delivery.message.seq < before and not spared

        given_up = self._memory.give_up(old)
        for delivery in given_up:
            self._ledger.put(delivery, "dead", reason=TOO_OLD)
        await self._durable()
        return len(given_up)

    async def drop_dead(self, seq: int) -> bool:
        """Forget a dead letter; say whether there was one."""
        due = await self._shard.row(seq)
        if due is None or due.row.state != "dead":
            return False
        self._ledger.drop(seq)
        await self._durable_for_good((seq,))
        return True

    async def conclude(self, claim: Claim, verdict: LateVerdict) -> Conclusion:
        """Take the verdict on a request that was answered `later`, or is about to be.

        Returns `settled`, `extended`, or `lapsed` where the attempt does not wait for one any more.
        """
        if claim.shard != self._shard.id:
            return "lapsed"
        if claim.generation != self._shard.generation:
            # A seek came meanwhile. The verdict counts no more, but what it was about has ended.
            self._memory.end_leases(self._now(), claim.seqs)
            return "lapsed"
        if self._conclude_before_the_answer(claim, verdict):
            return "extended" if verdict.verdict == "extend" else "settled"
        waiting = {
            position: due
            for position, (seq, attempt) in enumerate(_pairs(claim))
            if (due := await self._shard.row(seq)) is not None
            and due.row.state == "leased"
            and seq not in self._ledger.in_memory
            and due.row.attempts + 1 == attempt
        }
        if not waiting:
            return "lapsed"
        rows = list(waiting.values())
        if verdict.verdict == "extend":
            self._settlement.extend(rows, verdict)
        else:
            still = verdict.of_positions(list(waiting))
            decisions = self._settlement.concluded(still, [from_row(due) for due in rows])
            await self._carry_out(rows, decisions)
        await self._durable_for_good([due.row.seq for due in rows])
        return "extended" if verdict.verdict == "extend" else "settled"

    async def settle_pulled(
        self, claims: Sequence[Claim], decide: Callable[[Sequence[Due]], Sequence[Decision] | None]
    ) -> list[bool]:
        """Settle as `decide` has it what was pulled and is leased still; say which is.

        It returns None where it has extended them. Each claim is of one delivery.
        """
        found: list[bool] = []
        for start in range(0, len(claims), SETTLED_AT_ONCE):
            found += await self._settle_pulled(claims[start : start + SETTLED_AT_ONCE], decide)
        return found

    async def _settle_pulled(
        self, claims: Sequence[Claim], decide: Callable[[Sequence[Due]], Sequence[Decision] | None]
    ) -> list[bool]:
        current = [claim.seqs[0] for claim in claims if self._is_current(claim)]
        leased = await self._shard.leased_among(current) if current else {}
        found: list[bool] = []
        held: dict[int, Due] = {}
        for claim in claims:
            ((seq, attempt),) = _pairs(claim)
            due = leased.get(seq) if claim.generation == self._shard.generation else None
            ours = due is not None and due.row.attempts + 1 == attempt
            found.append(ours and seq not in self._ledger.in_memory)
            if due is not None and found[-1]:
                held[seq] = due
        if held:
            rows = list(held.values())
            decisions = decide(rows)
            if decisions is not None:
                await self._carry_out(rows, decisions)
            await self._durable_for_good(held)
        return found

    async def _carry_out(self, rows: Sequence[Due], decisions: Sequence[Decision]) -> None:
        again = not all(isinstance(each, Ack) for each in decisions)
        self._settlement.conclude(rows, decisions, await self._intake.behind(rows) if again else ())

    def _is_current(self, claim: Claim) -> bool:
        if claim.generation != self._shard.generation:
            # A seek came meanwhile: the answer counts no more, but what it was about has ended.
            self._memory.end_leases(self._now(), claim.seqs)
            return False
        return True

    def _conclude_before_the_answer(self, claim: Claim, verdict: LateVerdict) -> bool:
        for sent in self._requests.sent():
            pairs = [(each.message.seq, each.attempts + 1) for each in sent.deliveries]
            if not sent.settled and pairs == list(_pairs(claim)):
                if verdict.verdict == "extend":
                    sent.extended_s = verdict.ack_deadline_s
                elif sent.verdict is None:
                    sent.verdict = verdict
                return True
        return False

    async def _waiting(self, seq: int) -> Due | Literal[False] | None:
        due = await self._shard.row(seq)
        if due is None or due.row.state == "dead":
            return None
        if seq in self._ledger.in_memory or due.row.state not in {"retry", "blocked"}:
            return False
        return due

    async def _durable_for_good(self, seqs: Iterable[int]) -> None:
        """Wait until what became of rows is durable; what was dropped comes no more after a crash.

        It would if the position were below it.
        """
        committed = [self._ledger.commit(soon=True)]
        if self._shard.position() < max(seqs):
            self._settlement.let_position_pass(self._owed())
            committed.append(self._ledger.commit(soon=True))
        for each in committed:
            if each is not None:
                await each

    def _owed(self) -> Iterator[Delivery]:
        for sent in self._requests.sent():
            if not sent.settled:
                yield from sent.deliveries

    async def _durable(self) -> None:
        committed = self._ledger.commit(soon=True)
        if committed is not None:
            await committed


def _pairs(claim: Claim) -> "zip[tuple[int, int]]":
    return zip(claim.seqs, claim.attempts, strict=True)
