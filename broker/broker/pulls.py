"""The use cases of pulling: take deliveries, and say how each ended."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from broker.ack_urls import Claim, claim_in, token_of
from broker.dispatch import policy
from broker.dispatch.dispatcher import Dispatcher
from broker.dispatch.puller import MAX_PULLED_BYTES, Pulled
from broker.dispatch.pump import Pump
from broker.dispatch.settlement import NACKED
from broker.dispatch.verdicts import LateVerdict
from broker.errors import (
    BrokerError,
    Fault,
    MessageNotFound,
    OutcomeUnknown,
    StoreUnavailable,
)
from broker.fields import Body, Field, Refused, integer, seconds
from broker.model import Result
from broker.signing import key_of
from broker.store.port import Due, LeaseLost, Unavailable
from broker.subscription import Subscription

DEFAULT_MESSAGES = 100
MAX_MESSAGES = 1000
MAX_WAIT_S = 30
MAX_ACK_IDS = 10_000
DAY_S = 86400


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
        self,
        topic: str,
        name: str,
        body: Mapping[str, object],
        ended: asyncio.Event | None = None,
        most_bytes: int = MAX_PULLED_BYTES,
    ) -> list[Pulled]:
        """Return up to `max_messages` deliveries, leased; wait `wait_s` where there are none.

        Whoever is cancelled, or has `ended`, waits no longer, and nothing is leased to it.
        """
        limit, wait_s = pull_of(body)
        return await self.take(topic, name, limit, wait_s, ended, most_bytes)

    async def take(
        self,
        topic: str,
        name: str,
        limit: int,
        wait_s: float | None,
        ended: asyncio.Event | None = None,
        most_bytes: int = MAX_PULLED_BYTES,
    ) -> list[Pulled]:
        """Return up to `limit` deliveries, leased; None waits for ever.

        There are no more once their messages have `most_bytes`.
        """
        pump = self._pump(topic, name)
        patient = wait_s is None or wait_s > 0
        answer = pump.pull(limit, patient=patient, most_bytes=most_bytes)
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
        ids = ACK.require(body)["ack_ids"]
        return await self._settle(topic, name, ids, lambda rows: [policy.ACK] * len(rows))

    async def nack(self, topic: str, name: str, body: Mapping[str, object]) -> list[Result]:
        """Hand deliveries back: a failed attempt each, the next after `delay_s` or the backoff."""
        values = NACK.require(body)
        ids, delay_s = values["ack_ids"], values.get("delay_s")
        settlement = self._pump(topic, name).settlement

        def decide(rows: Sequence[Due]) -> Sequence[policy.Decision]:
            settlement.last_error = NACKED
            return settlement.nacked(rows, delay_s)

        return await self._settle(topic, name, ids, decide)

    async def extend(self, topic: str, name: str, body: Mapping[str, object]) -> list[Result]:
        """Have leases end `ack_deadline_s` from now."""
        values = EXTEND.require(body)
        ids, lasting_s = values["ack_ids"], values.get("ack_deadline_s")
        settlement = self._pump(topic, name).settlement

        def decide(rows: Sequence[Due]) -> None:
            settlement.extend(rows, LateVerdict("extend", ack_deadline_s=lasting_s))

        return await self._settle(topic, name, ids, decide)

    async def _settle(
        self,
        topic: str,
        name: str,
        ids: Sequence[str],
        decide: Callable[[Sequence[Due]], Sequence[policy.Decision] | None],
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
            held = await pump.perform(partial(acts.settle_pulled, known, decide))
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
    values = PULL.require(body)
    limit, wait_s = values.get("max_messages"), values.get("wait_s")
    return DEFAULT_MESSAGES if limit is None else limit, 0.0 if wait_s is None else wait_s


def _ids() -> Field:
    told = "must be a string, as a pull gave it"

    def check(value: object) -> list[str]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_ACK_IDS:
            raise ValueError(f"must be a list of 1 to {MAX_ACK_IDS} ids")
        faults = [
            Fault(f"[{position}]", told)
            for position, each in enumerate(value)
            if not isinstance(each, str)
        ]
        if faults:
            raise Refused(faults[:20])
        return value

    items = {"type": "string"}
    return Field(check, {"type": "array", "items": items, "minItems": 1, "maxItems": MAX_ACK_IDS})


def _act(name: str, **others: Field) -> Body:
    ids = _ids().says("The `ack_id`s of deliveries")
    return Body(name, {"ack_ids": ids, **others}, required=("ack_ids",))


PULL = Body(
    "Pull",
    {
        "max_messages": integer(1, MAX_MESSAGES).says("How many deliveries at most"),
        "wait_s": seconds(0, MAX_WAIT_S).says("How long to wait where there are none"),
    },
).defaults({"max_messages": DEFAULT_MESSAGES, "wait_s": 0})
ACK = _act("Ack")
NACK = _act(
    "Nack",
    delay_s=seconds(0, DAY_S).says(
        "When they are delivered again; if not given, after the subscription's backoff"
    ),
)
EXTEND = _act(
    "Extend",
    ack_deadline_s=seconds(1, DAY_S).says(
        "How long they stay leased from now on; if not given, the subscription's `ack_deadline_s`"
    ),
)
