"""The use cases of pulling: take deliveries, and say how each ended."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

from broker.ack_urls import Claim, claim_in, token_of
from broker.dispatch.dispatcher import Dispatcher
from broker.dispatch.policy import ACK
from broker.dispatch.puller import Pulled
from broker.dispatch.pump import Pump
from broker.dispatch.settlement import NACKED
from broker.dispatch.verdicts import LateVerdict
from broker.errors import (
    BrokerError,
    Fault,
    InvalidRequest,
    MessageNotFound,
    OutcomeUnknown,
    StoreUnavailable,
)
from broker.signing import key_of
from broker.store.port import Due, LeaseLost, Unavailable
from broker.subscription import Subscription

Result: TypeAlias = Literal["settled", "lapsed", "unknown"]

MAX_MESSAGES = 1000
MAX_WAIT_S = 30.0
MAX_ACK_IDS = 10_000
DAY_S = 86400.0


class NotPulled(BrokerError):
    """The subscription's deliveries are pushed to its endpoint."""

    status = 409
    code = "not_a_pull_subscription"

    def __init__(self, topic: str, name: str) -> None:
        super().__init__(
            f"{topic}/{name} has an endpoint, to which its deliveries are pushed. Pull from a "
            'subscription of its own, or PUT this one with "endpoint": null.'
        )


class Subscriptions(Protocol):
    """Where subscriptions are looked up."""

    def subscription(self, topic: str, name: str) -> Subscription:
        """Return one. Raises SubscriptionNotFound."""


class Pulls:
    """What pullers may ask. Every method runs on the event loop and raises BrokerErrors."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self.dispatcher: Dispatcher | None = None

    async def pull(
        self, topic: str, name: str, body: Mapping[str, object], ended: asyncio.Event | None = None
    ) -> list[Pulled]:
        """Return up to `max_messages` deliveries, leased; wait `wait_s` where there are none.

        Whoever is cancelled, or has `ended`, waits no longer, and nothing is leased to it.
        """
        limit, wait_s = pull_of(body)
        return await self.take(topic, name, limit, wait_s, ended)

    async def take(
        self,
        topic: str,
        name: str,
        limit: int,
        wait_s: float | None,
        ended: asyncio.Event | None = None,
    ) -> list[Pulled]:
        """Return up to `limit` deliveries, leased; None waits for ever."""
        pump = self._pump(topic, name)
        patient = wait_s is None or wait_s > 0
        answer = pump.pull(limit, patient=patient)
        waits: list[asyncio.Future[Any]] = [answer]
        if ended is not None:
            waits.append(asyncio.ensure_future(ended.wait()))
        try:
            timeout = wait_s if patient else None
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else []
        except Unavailable:
            raise OutcomeUnknown from None
        finally:
            for each in waits:
                each.cancel()

    def ack_id(self, topic: str, name: str, claim: Claim) -> str:
        """Return the id by which a delivery is acknowledged."""
        subscription = self._subscriptions.subscription(topic, name)
        return token_of(claim, key_of(subscription.secret))

    async def ack(self, topic: str, name: str, body: Mapping[str, object]) -> list[Result]:
        """Settle deliveries; return what became of each, once it is on disk."""
        ids = _ids_of(body, ())
        pump = self._pump(topic, name)

        def conclude(rows: Sequence[Due]) -> None:
            pump.settlement.conclude(rows, [ACK] * len(rows))

        return await self._settle(topic, name, ids, conclude)

    async def nack(self, topic: str, name: str, body: Mapping[str, object]) -> list[Result]:
        """Hand deliveries back: a failed attempt each, the next after `delay_s` or the backoff."""
        ids = _ids_of(body, ("delay_s",))
        delay_s = _seconds_of(body, "delay_s", 0.0)
        settlement = self._pump(topic, name).settlement

        def conclude(rows: Sequence[Due]) -> None:
            settlement.last_error = NACKED
            settlement.conclude(rows, settlement.nacked(rows, delay_s))

        return await self._settle(topic, name, ids, conclude)

    async def extend(self, topic: str, name: str, body: Mapping[str, object]) -> list[Result]:
        """Have leases end `ack_deadline_s` from now."""
        ids = _ids_of(body, ("ack_deadline_s",))
        seconds = _seconds_of(body, "ack_deadline_s", 1.0)
        settlement = self._pump(topic, name).settlement

        def conclude(rows: Sequence[Due]) -> None:
            settlement.extend(rows, LateVerdict("extend", ack_deadline_s=seconds))

        return await self._settle(topic, name, ids, conclude)

    async def _settle(
        self, topic: str, name: str, ids: Sequence[str], conclude: Callable[[Sequence[Due]], None]
    ) -> list[Result]:
        pump = self._pump(topic, name)
        keys = self._subscriptions.subscription(topic, name).signing_keys(0.0)
        claims = [claim_in(each, keys) for each in ids]
        known = [
            claim
            for claim in claims
            if claim is not None and claim.shard == pump.shard_id and len(claim.seqs) == 1
        ]
        acts = pump.interventions
        try:
            held = await pump.perform(partial(acts.settle_pulled, known, conclude))
        except LeaseLost:
            raise MessageNotFound("The subscription was deleted meanwhile.") from None
        except Unavailable:
            raise OutcomeUnknown from None
        told = {id(claim): each for claim, each in zip(known, held, strict=True)}
        return [
            "unknown" if id(claim) not in told else "settled" if told[id(claim)] else "lapsed"
            for claim in claims
        ]

    def _pump(self, topic: str, name: str) -> Pump:
        subscription = self._subscriptions.subscription(topic, name)
        if subscription.endpoint is not None:
            raise NotPulled(topic, name)
        pump = None if self.dispatcher is None else self.dispatcher.pump(topic, name)
        if pump is None:
            raise StoreUnavailable(f"{topic}/{name} is being taken over. Try again in a moment.")
        return pump


def pull_of(body: Mapping[str, object]) -> tuple[int, float]:
    """Read how many deliveries are wanted, and how long to wait. Raises InvalidRequest."""
    faults = _unknown(body, ("max_messages", "wait_s"))
    limit = body.get("max_messages")
    if limit is None:
        limit = 100
    elif isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_MESSAGES:
        rule = f"must be a whole number from 1 to {MAX_MESSAGES}"
        faults.append(Fault("max_messages", rule))
    wait_s = body.get("wait_s")
    if wait_s is None:
        wait_s = 0.0
    elif not _is_number(wait_s, 0.0, MAX_WAIT_S):
        faults.append(Fault("wait_s", f"must be seconds from 0 to {MAX_WAIT_S:g}"))
    if faults:
        raise InvalidRequest(faults)
    return int(limit), float(wait_s)  # type: ignore[call-overload, arg-type]


def _ids_of(body: Mapping[str, Any], others: Sequence[str]) -> list[str]:
    faults = _unknown(body, ("ack_ids", *others))
    ids = body.get("ack_ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_ACK_IDS:
        faults.append(Fault("ack_ids", f"must be a list of 1 to {MAX_ACK_IDS} ids"))
    else:
        faults += [
            Fault(f"ack_ids[{position}]", "must be a string, as a pull gave it")
            for position, each in enumerate(ids)
            if not isinstance(each, str)
        ][:20]
    if faults:
        raise InvalidRequest(faults)
    return list(ids or ())


def _seconds_of(body: Mapping[str, object], name: str, low: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if not _is_number(value, low, DAY_S):
        raise InvalidRequest([Fault(name, f"must be seconds from {low:g} to {DAY_S:g}")])
    return float(value)  # type: ignore[arg-type]


def _unknown(body: Mapping[str, object], known: Sequence[str]) -> list[Fault]:
    told = f"is not a field; there are {', '.join(known)}"
    return [Fault(name, told) for name in body if name not in known]


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
