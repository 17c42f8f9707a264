"""The use cases of what a subscription is owed: deliveries, dead letters, seeks, late verdicts."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

from broker.ack_urls import Claim, claim_in
from broker.changes import subscription_changed
from broker.cloudevents import parse_time
from broker.dispatch.dispatcher import Dispatcher
from broker.dispatch.policy import RECEIPTS
from broker.dispatch.pump import Pump
from broker.dispatch.verdicts import LateVerdict, Positions
from broker.errors import (
    DeliveryBusy,
    Fault,
    InvalidAckUrl,
    InvalidRequest,
    MessageNotFound,
    OutcomeUnknown,
    StoreUnavailable,
    SubscriptionNotFound,
)
from broker.fields import MAX_INTEGER, Body, flag, integers, one_of, seconds
from broker.model import Conclusion, RowState
from broker.store.port import LeaseLost, Store, Unavailable
from broker.subscription import MAX_LATER_BATCH, Subscription, place_in_log
from broker.views import (
    AttemptView,
    DeadLetterView,
    DeliveryView,
    Fate,
    FateView,
    Unsettled,
    attempt_view,
    dead_letter_view,
    delivery_view,
    fate_view,
)

T = TypeVar("T")

STATES: Mapping[Unsettled, Sequence[RowState]] = {
    "retrying": ("retry",),
    "in-flight": ("leased",),
    "blocked": ("blocked",),
    "waiting": ("held",),
}
EVERY_STATE: Sequence[RowState] = ("retry", "held", "leased", "blocked", "dead")
VERDICTS = ("ack", "retry", "dead-letter", "extend")
MAX_SEQUENCES = 10_000
DAY_S = 86400


class Subscriptions(Protocol):
    """Where subscriptions are looked up."""

    def subscription(self, topic: str, name: str) -> Subscription:
        """Return one. Raises SubscriptionNotFound."""


class Deliveries:
    """What can be asked about deliveries. Every method runs on the worker's event loop.

    Each raises a BrokerError for what it refuses, and has then changed nothing.
    """

    def __init__(
        self, store: Store, subscriptions: Subscriptions, dispatcher: Dispatcher | None = None
    ) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self.dispatcher = dispatcher

    # -- what is owed ------------------------------------------------------------------------------

    async def unsettled(
        self, topic: str, name: str, state: Unsettled, after: int, limit: int
    ) -> tuple[list[DeliveryView], int | None]:
        """Return deliveries in a state, by sequence, and after which one to read on."""
        states = STATES[state]
        with self._still_there(topic, name):
            rows = await self._store.rows(topic, name, states, after, limit + 1)
        found = {due.row.seq: due for due in rows}
        out = {due.row.seq: due for due in self._pump(topic, name).outstanding()}
        if state == "in-flight":
            found |= {seq: due for seq, due in out.items() if seq > after}
        else:
            found = {seq: due for seq, due in found.items() if seq not in out}
        page = [due for _, due in sorted(found.items())][:limit]
        full = len(rows) > limit or len(found) > limit
        following = max(due.row.seq for due in (page or rows[:limit])) if full else None
        return [delivery_view(state, due) for due in page], following

    async def attempts(self, topic: str, name: str, sequence: int) -> list[AttemptView]:
        """Return the failed attempts at a message, the oldest first."""
        with self._still_there(topic, name):
            attempts = await self._store.attempts(topic, name, sequence)
            if not attempts:
                await self._require_message(topic, sequence)
        return [attempt_view(each) for each in attempts]

    async def fate(self, topic: str, name: str, sequence: int) -> FateView:
        """Return what became of a message that is in the log."""
        pump = self._pump(topic, name)
        # First: what is owed no more after that has its row by then, if it gets one.
        owed = pump.owes(sequence)
        out = any(due.row.seq == sequence for due in pump.outstanding())
        with self._still_there(topic, name):
            rows = await self._store.rows(topic, name, EVERY_STATE, sequence - 1, 1)
            attempts = await self._store.attempts(topic, name, sequence)
        row = rows[0].row if rows and rows[0].row.seq == sequence else None
        state = _fate(owed, out, None if row is None else row.state)
        return fate_view(name, state, row, [attempt_view(each) for each in attempts])

    async def retry(self, topic: str, name: str, sequence: int) -> None:
        """Have a blocked or retrying delivery attempted now."""
        acts = self._pump(topic, name).interventions
        await self._act(topic, name, sequence, partial(acts.retry_now, sequence))

    async def dead_letter(self, topic: str, name: str, sequence: int) -> None:
        """Give up a blocked or retrying delivery."""
        acts = self._pump(topic, name).interventions
        await self._act(topic, name, sequence, partial(acts.give_up, sequence))

    async def _act(
        self, topic: str, name: str, sequence: int, act: Callable[[], Awaitable[bool | None]]
    ) -> None:
        found = await self._perform(topic, name, act)
        if found is None:
            raise MessageNotFound(
                f"{topic}/{name} has no blocked or retrying delivery {sequence}: "
                "it is settled, not sent yet, or was never stored."
            )
        if not found:
            raise DeliveryBusy(
                f"The delivery {sequence} is being attempted or waits behind its key. "
                "See …/deliveries, and try again when it is blocked or retrying."
            )

    async def _require_message(self, topic: str, sequence: int) -> None:
        found, _ = await self._store.read(topic, sequence - 1, 1)
        if not found or found[0].seq != sequence:
            raise MessageNotFound(f'Topic "{topic}" has no message {sequence}.')

    # -- dead letters ------------------------------------------------------------------------------

    async def dead_letters(
        self, topic: str, name: str, after: int, limit: int
    ) -> tuple[list[DeadLetterView], int | None]:
        """Return dead letters by sequence, and after which one to read on."""
        with self._still_there(topic, name):
            rows = await self._store.rows(topic, name, ("dead",), after, limit + 1)
        page = rows[:limit]
        following = page[-1].row.seq if len(rows) > limit else None
        return [dead_letter_view(due) for due in page], following

    async def dead_letter_of(self, topic: str, name: str, sequence: int) -> DeadLetterView:
        """Return one dead letter with its failed attempts."""
        with self._still_there(topic, name):
            rows = await self._store.rows(topic, name, ("dead",), sequence - 1, 1)
            if not rows or rows[0].row.seq != sequence:
                raise _no_dead_letter(topic, name, sequence)
            attempts = await self._store.attempts(topic, name, sequence)
        return dead_letter_view(rows[0], [attempt_view(each) for each in attempts])

    async def replay(self, topic: str, name: str, body: Mapping[str, object]) -> int:
        """Make dead letters owed again; return how many."""
        acts = self._pump(topic, name).interventions
        count = await self._perform(topic, name, partial(acts.replay, _chosen(body)))
        subscription_changed("dead_letters_replayed", topic, name, count=count)
        return count

    async def delete_dead_letter(self, topic: str, name: str, sequence: int) -> None:
        """Forget a dead letter."""
        acts = self._pump(topic, name).interventions
        if not await self._perform(topic, name, partial(acts.drop_dead, sequence)):
            raise _no_dead_letter(topic, name, sequence)

    # -- seek --------------------------------------------------------------------------------------

    async def seek(self, topic: str, name: str, body: Mapping[str, object]) -> int:
        """Move a subscription to a time or place; return what it is then owed."""
        acts = self._pump(topic, name).interventions
        to, dry_run = _seek_of(body)
        with self._still_there(topic, name):
            position = await self._position(topic, to)
            if not dry_run:
                await self._perform(topic, name, partial(acts.seek, position))
                subscription_changed("sought", topic, name, position=position)
            stats = self._store.topic_stats(topic)
        return max(0, stats.last_sequence - max(position, stats.first_sequence - 1))

    async def _position(self, topic: str, to: str | int) -> int:
        stats = self._store.topic_stats(topic)
        if to == "beginning":
            return stats.first_sequence - 1
        if isinstance(to, int):
            return max(0, min(to - 1, stats.last_sequence))
        at = None if to == "now" else parse_time(to)
        return stats.last_sequence if at is None else await self._store.locate(topic, at) - 1

    # -- verdicts that come later ------------------------------------------------------------------

    async def conclude(
        self, topic: str, name: str, token: str, body: Mapping[str, object]
    ) -> Conclusion:
        """Take the verdict on a delivery that was answered `later`: `settled` or `lapsed`."""
        subscription = self._subscriptions.subscription(topic, name)
        claim = claim_in(token, subscription.signing_keys(0.0))
        if claim is None:
            raise InvalidAckUrl
        acts = self._pump(topic, name).interventions
        verdict = _verdict_of(body, claim)
        return await self._perform(topic, name, partial(acts.conclude, claim, verdict))

    # -- within ------------------------------------------------------------------------------------

    @contextmanager
    def _still_there(self, topic: str, name: str) -> Iterator[None]:
        """Look a subscription up, and refuse what finds it deleted meanwhile."""
        self._subscriptions.subscription(topic, name)
        try:
            yield
        except (KeyError, LeaseLost):
            raise SubscriptionNotFound(topic, name) from None

    def _pump(self, topic: str, name: str) -> Pump:
        self._subscriptions.subscription(topic, name)
        pump = None if self.dispatcher is None else self.dispatcher.pump(topic, name)
        if pump is None:
            raise StoreUnavailable(f"{topic}/{name} is being taken over. Try again in a moment.")
        return pump

    async def _perform(self, topic: str, name: str, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._pump(topic, name).perform(act)
        except LeaseLost:
            raise MessageNotFound("The subscription was deleted meanwhile.") from None
        except Unavailable:
            raise OutcomeUnknown from None


def _fate(owed: bool, out: bool, state: RowState | None) -> Fate:
    """Say what became of a message, by the state of its row and whether its request is out."""
    if out:
        return "in-flight"
    if state == "dead":
        return "dead"
    if state is not None:
        return next(fate for fate, states in STATES.items() if state in states)
    return "owed" if owed else "settled"


def _no_dead_letter(topic: str, name: str, sequence: int) -> MessageNotFound:
    return MessageNotFound(f"{topic}/{name} has no dead letter {sequence}.")


def _chosen(body: Mapping[str, object]) -> Sequence[int] | None:
    """Read which dead letters to replay: their sequences, None for all."""
    values = REPLAY.require(body)
    sequences: list[int] | None = values.get("sequences")
    if bool(values.get("all")) == (sequences is not None):
        raise InvalidRequest([Fault("sequences", 'give either sequences or "all": true')])
    return sequences


def _seek_of(body: Mapping[str, object]) -> tuple[str | int, bool]:
    values = SEEK.require(body)
    return values["to"], bool(values.get("dry_run"))


def _verdict_of(body: Mapping[str, object], claim: Claim) -> LateVerdict:
    values, faults = VERDICT.read(body)
    positions = {name: values.get(name) or () for name in ("retry", "dead_letter")}
    for name, given in positions.items():
        if any(each >= len(claim.seqs) for each in given):
            rule = f"must be a list of positions from 0 to {len(claim.seqs) - 1}"
            faults.append(Fault(name, rule))
        elif given and values.get("verdict", "ack") != "ack":
            faults.append(Fault(name, "singles out positions of an ack only"))
    if faults:
        raise InvalidRequest(faults)
    return LateVerdict(
        verdict=values["verdict"],
        receipt=values.get("receipt") is not None,
        positions=Positions(
            frozenset(positions["retry"]),
            frozenset(positions["dead_letter"]) - frozenset(positions["retry"]),
        ),
        retry_after_s=values.get("retry_after_s"),
        ack_deadline_s=values.get("ack_deadline_s"),
    )


SEEK = Body(
    "Seek",
    {
        "to": place_in_log().says(
            "What is delivered next: `beginning`, `now` for what comes, a time for what was stored "
            "since, or a sequence"
        ),
        "dry_run": flag().says("Only tell what the backlog would be"),
    },
    required=("to",),
).defaults({"dry_run": False})
REPLAY = Body(
    "Replay",
    {
        "sequences": integers(
            1,
            MAX_INTEGER,
            f"must be a list of 1 to {MAX_SEQUENCES} sequences",
            least=1,
            most=MAX_SEQUENCES,
        ).says("These dead letters"),
        "all": flag().says("Every dead letter"),
    },
    also={
        "oneOf": [
            {
                "required": ["sequences"],
                "properties": {"sequences": {"type": "array"}, "all": {"enum": [False, None]}},
            },
            {
                "required": ["all"],
                "properties": {"all": {"const": True}, "sequences": {"type": "null"}},
            },
        ]
    },
)
_positions = integers(0, MAX_LATER_BATCH - 1, "must be a list of positions", most=MAX_LATER_BATCH)
VERDICT = Body(
    "Verdict",
    {
        "verdict": one_of(*VERDICTS).says(
            "`ack`: handled; `retry`: send it again; `dead-letter`: give it up; `extend`: wait on"
        ),
        "receipt": one_of(*sorted(RECEIPTS)).says(
            "With an ack under `exactly-once`: what the receiver's inbox has done"
        ),
        "retry": _positions.says("Of a batch: these are delivered again, the others acked"),
        "dead_letter": _positions.says("Of a batch: these are given up, the others acked"),
        "retry_after_s": seconds(0, DAY_S).says("With `retry`: not before that"),
        "ack_deadline_s": seconds(0, DAY_S).says(
            "With `extend`: how long to wait on; the subscription's `ack_deadline_s` if not given"
        ),
    },
    required=("verdict",),
)
