"""A subscription that is pulled from: what is asked for, and what becomes of what comes."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from broker_client.delivery import Delivery
from broker_client.errors import MalformedEvent
from broker_client.handlers import Handler
from broker_client.inbox import Inbox
from broker_client.names import check_name
from broker_client.reception import Outcome, Reception

MAX_DELAY_S = 86400.0
"""How long the broker waits at most before the next attempt that was asked for."""
DEADLINE_S = 30.0
"""How long what was pulled is leased where nobody says otherwise."""
_LOST = frozenset({"lapsed", "unknown"})


class PullSubscription:
    """Has what is pulled handled; `fields` are those with which the subscription is put.

    `handler` is called with the event and what `transaction` gives. Raises ValueError for names
    and fields that cannot be.
    """

    def __init__(
        self,
        topic: str,
        name: str,
        handler: Handler,
        *,
        inbox: Inbox | None,
        transaction: Callable[[], AbstractContextManager[Any]] | None,
        fields: Mapping[str, Any],
        logger: logging.Logger,
    ) -> None:
        self.topic = check_name("topic", topic)
        self.name = check_name("subscription", name)
        if "endpoint" in fields:
            raise ValueError("a subscription with an endpoint cannot be pulled from")
        self.fields = {**_default_fields(inbox), **fields}
        if transaction is None:
            transaction = nullcontext if inbox is None else inbox.transaction
        self._logger = logger
        self._reception = Reception(
            inbox,
            str(self),
            transaction,
            lambda delivery, session: handler(delivery.event, session),
        )

    def __str__(self) -> str:
        return f"{self.topic}/{self.name}"

    def take(self, read: Callable[[], Delivery]) -> Outcome:
        """Read a delivery and have it handled; never raises. What is no event has failed."""
        try:
            delivery = read()
        except MalformedEvent as error:
            self._logger.error(
                "What came from topic %s is no event: %s",
                self.topic,
                error,
                extra={"action": "failed"},
            )
            return Outcome("failed")
        return self._reception.take(delivery)

    def deadline_s(self, told: object) -> float:
        """Return how long leases last: as the broker tells, as was asked for, or by default."""
        for each in (told, self.fields.get("ack_deadline_s")):
            if isinstance(each, (int, float)) and each > 0:
                return float(each)
        return DEADLINE_S

    def log_lapsed(self) -> None:
        """Say that a message was lost to somebody else."""
        self._logger.warning(
            "A message of %s was out for longer than it may be, and comes again",
            self,
            extra={"action": "lapsed"},
        )


def is_lost(result: object) -> bool:
    """Say whether the broker's word on an acknowledgement is that it came too late.

    A word of a newer broker's is none of those.
    """
    return isinstance(result, str) and result in _LOST


def delay_of(outcome: Outcome) -> float | None:
    """Return the wait before the next attempt that a handler asked for, as the broker takes it."""
    return None if outcome.after_s is None else min(max(0.0, outcome.after_s), MAX_DELAY_S)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError for a number that is out of range."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low:g} to {high:g}, not {value!r}")


def _default_fields(inbox: Inbox | None) -> dict[str, Any]:
    guarantee = "at-least-once" if inbox is None else "exactly-once"
    return {"start": "beginning", "ordering": "key", "guarantee": guarantee}
