"""The use cases of what a subscription is owed: deliveries, dead letters, seeks, late verdicts."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from broker.ack_urls import Claim, claim_in
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
from broker.model import RowState
from broker.store.port import LeaseLost, Store, Unavailable
from broker.subscription import Subscription
from broker.views import attempt_view, dead_letter_view, delivery_view

T = TypeVar("T")
View: TypeAlias = dict[str, Any]

STATES: Mapping[str, Sequence[RowState]] = {
    "retrying": ("retry",),
    "in-flight": ("leased",),
    "blocked": ("blocked",),
    "waiting": ("held",),
}
VERDICTS = ("ack", "retry", "dead-letter", "extend")
MAX_SEQUENCES = 10_000
DAY_S = 86400
_SECONDS = ("retry_after_s", "ack_deadline_s")


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
        self, topic: str, name: str, state: str, after: int, limit: int
    ) -> tuple[list[View], int | None]:
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

    async def attempts(self, topic: str, name: str, sequence: int) -> list[View]:
        """Return the failed attempts at a message, the oldest first."""
        with self._still_there(topic, name):
            attempts = await self._store.attempts(topic, name, sequence)
            if not attempts:
                await self._require_message(topic, sequence)
        return [attempt_view(each) for each in attempts]

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
    ) -> tuple[list[View], int | None]:
        """Return dead letters by sequence, and after which one to read on."""
        with self._still_there(topic, name):
            rows = await self._store.rows(topic, name, ("dead",), after, limit + 1)
        return _page([dead_letter_view(due) for due in rows], limit)

    async def dead_letter_of(self, topic: str, name: str, sequence: int) -> View:
        """Return one dead letter with its failed attempts."""
        with self._still_there(topic, name):
            rows = await self._store.rows(topic, name, ("dead",), sequence - 1, 1)
            if not rows or rows[0].row.seq != sequence:
                raise _no_dead_letter(topic, name, sequence)
            attempts = await self._store.attempts(topic, name, sequence)
        return {
            **dead_letter_view(rows[0]),
            "failed_attempts": [attempt_view(each) for each in attempts],
        }

    async def replay(self, topic: str, name: str, body: Mapping[str, object]) -> int:
        """Make dead letters owed again; return how many."""
        acts = self._pump(topic, name).interventions
        return await self._perform(topic, name, partial(acts.replay, _chosen(body)))

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

    async def conclude(self, topic: str, name: str, token: str, body: Mapping[str, object]) -> str:
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


def _page(found: list[View], limit: int) -> tuple[list[View], int | None]:
    page = found[:limit]
    return page, page[-1]["sequence"] if len(found) > limit else None


def _no_dead_letter(topic: str, name: str, sequence: int) -> MessageNotFound:
    return MessageNotFound(f"{topic}/{name} has no dead letter {sequence}.")


def _require_fields(body: Mapping[str, object], *known: str) -> None:
    told = f"is not a field; there are {', '.join(known)}"
    faults = [Fault(name, told) for name in body if name not in known]
    if faults:
        raise InvalidRequest(faults)


def _chosen(body: Mapping[str, object]) -> Sequence[int] | None:
    """Read which dead letters to replay: their sequences, None for all."""
    _require_fields(body, "sequences", "all")
    sequences, everything = body.get("sequences"), body.get("all")
    if everything is not None and not isinstance(everything, bool):
        raise InvalidRequest([Fault("all", "must be true or false")])
    if bool(everything) == (sequences is not None):
        raise InvalidRequest([Fault("sequences", 'give either sequences or "all": true')])
    if sequences is None:
        return None
    rule = f"must be a list of 1 to {MAX_SEQUENCES} sequences"
    if not isinstance(sequences, list) or not 1 <= len(sequences) <= MAX_SEQUENCES:
        raise InvalidRequest([Fault("sequences", rule)])
    faults = [
        Fault(f"sequences[{position}]", "must be a whole number from 1")
        for position, each in enumerate(sequences)
        if isinstance(each, bool) or not isinstance(each, int) or not 1 <= each < 2**53
    ]
    if faults:
        raise InvalidRequest(faults[:20])
    return sequences


def _seek_of(body: Mapping[str, object]) -> tuple[str | int, bool]:
    _require_fields(body, "to", "dry_run")
    faults: list[Fault] = []
    to, dry_run = body.get("to"), body.get("dry_run", False)
    if not isinstance(dry_run, bool):
        faults.append(Fault("dry_run", "must be true or false"))
    number = isinstance(to, int) and not isinstance(to, bool) and 0 <= to < 2**53
    word = isinstance(to, str) and (to in {"beginning", "now"} or parse_time(to) is not None)
    if not number and not word:
        rule = "must be beginning, now, a time (RFC 3339) or a sequence"
        faults.append(Fault("to", rule))
    if faults:
        raise InvalidRequest(faults)
    return to, dry_run  # type: ignore[return-value]


def _verdict_of(body: Mapping[str, object], claim: Claim) -> LateVerdict:
    _require_fields(body, "verdict", "receipt", "retry", "dead_letter", *_SECONDS)
    faults: list[Fault] = []
    verdict = body.get("verdict")
    if verdict not in VERDICTS:
        faults.append(Fault("verdict", f"must be {' or '.join(VERDICTS)}"))
    receipt = body.get("receipt")
    if receipt is not None and receipt not in RECEIPTS:
        faults.append(Fault("receipt", f"must be {' or '.join(sorted(RECEIPTS))}"))
    positions: dict[str, list[int]] = {}
    for name in ("retry", "dead_letter"):
        given = body.get(name, [])
        if not isinstance(given, list) or not all(
            isinstance(each, int) and 0 <= each < len(claim.seqs) for each in given
        ):
            rule = f"must be a list of positions from 0 to {len(claim.seqs) - 1}"
            faults.append(Fault(name, rule))
        elif given and verdict != "ack":
            faults.append(Fault(name, "singles out positions of an ack only"))
        else:
            positions[name] = given
    seconds = {name: _seconds(name, body.get(name), faults) for name in _SECONDS}
    if faults:
        raise InvalidRequest(faults)
    return LateVerdict(
        verdict=str(verdict),
        receipt=receipt is not None,
        positions=Positions(
            frozenset(positions["retry"]),
            frozenset(positions["dead_letter"]) - frozenset(positions["retry"]),
        ),
        **seconds,
    )


def _seconds(name: str, value: object, faults: list[Fault]) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= DAY_S:
        faults.append(Fault(name, f"must be seconds from 0 to {DAY_S}"))
        return None
    return float(value)
