"""Taking a subscription's messages by pull, and having each handled."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from broker_client.background import Background, Failures, Pulse
from broker_client.delivery import Delivery, read_pulled
from broker_client.errors import BrokerRefused, BrokerUnavailable, MalformedEvent
from broker_client.formats import dump_json
from broker_client.handlers import Handler
from broker_client.inbox import Inbox
from broker_client.names import check_name
from broker_client.reception import Outcome, Reception
from broker_client.transport import Transport

Act = Literal["pull", "ack", "nack", "extend"]

MAX_PULLED = 1000
"""How many messages the broker gives in one answer."""
MAX_WAIT_S = 30.0
"""How long the broker waits for a message, in seconds."""
SETTLE_S = 1.0
"""How long a message that is done may wait for the others before the broker hears of it."""
_MARGIN_S = 10.0  # what an answer may take beyond the wait that was asked for
_MAX_BACKOFF_S = 10.0
_NOT_FOUND = 404

logger = logging.getLogger("broker_client.pull_consumer")


@dataclass(frozen=True, slots=True)
class Pulled:
    """One delivery of an answer; `ack_id` is None where handing it out has settled it.

    `delivery` is None where the message is no event.
    """

    ack_id: str | None
    delivery: Delivery | None


class PullConsumer:
    """Pulls a subscription's messages, and has each handled; no endpoint is needed.

    `handler` is called with the event and what `transaction` gives, as a handler of the Flask
    extension is: the inbox's record of the event and the handler's effects are committed together,
    `transaction` is `inbox.transaction` unless given, and without either it gives None. Whatever
    the handler raises rolls back, and the event comes again: after `Retry.after_s`, or after the
    subscription's backoff, `max_attempts` times in all. `DeadLetter` is a failed attempt like any
    other, for a puller cannot give a message up.

    The subscription is created with `fields`, such as `ack_deadline_s=120`; `start` is "beginning",
    `ordering` "key" and `guarantee` exactly-once unless given, or at-least-once where there is no
    inbox. A handler should need less than `ack_deadline_s` (30 s): after that the message goes to
    somebody else. `max_messages` are pulled at a time, 1 to 1,000, and handled one after another;
    any number of consumers may share the subscription. `wait_s`, 0 to 30, is how long the broker
    waits for a message, and so how long `stop` may take.
    """

    def __init__(
        self,
        base_url: str,
        topic: str,
        subscription: str,
        handler: Handler,
        *,
        inbox: Inbox | None = None,
        transaction: Callable[[], AbstractContextManager[Any]] | None = None,
        api_key: str | None = None,
        max_messages: int = 10,
        wait_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        **fields: Any,
    ) -> None:
        check_name("topic", topic)
        check_name("subscription", subscription)
        _check_range("max_messages", max_messages, 1, MAX_PULLED)
        _check_range("wait_s", wait_s, 0, MAX_WAIT_S)
        if "endpoint" in fields:
            raise ValueError("a subscription with an endpoint cannot be pulled from")
        self._topic, self._name = topic, subscription
        self._path = f"/v1/topics/{topic}/subscriptions/{subscription}"
        self._fields = {**_default_fields(inbox), **fields}
        self._wanted = {"max_messages": max_messages, "wait_s": wait_s}
        self._clock = clock
        self._transport = Transport(base_url, api_key=api_key, timeout_s=wait_s + _MARGIN_S)
        if transaction is None:
            transaction = nullcontext if inbox is None else inbox.transaction
        self._reception = Reception(
            inbox,
            f"{topic}/{subscription}",
            transaction,
            lambda delivery, session: handler(delivery.event, session),
        )
        self._there = False
        self._background = Background(f"pull {topic}/{subscription}", self._run)

    def start(self) -> None:
        """Pull in a thread of its own, unless that has begun in this process."""
        self._background.start()

    def stop(self, timeout_s: float = MAX_WAIT_S + _MARGIN_S) -> None:
        """Handle what has been pulled, then end; wait for that, but no longer than this."""
        self._background.stop(timeout_s)

    def run_once(self) -> int:
        """Pull once and handle what comes; return how many messages were done.

        For scripts and tests. Raises BrokerRefused, BrokerUnavailable.
        """
        if not self._there:
            self._subscribe()
        try:
            answer = self._call("pull", self._wanted)
        except BrokerRefused as refusal:
            self._there = refusal.status != _NOT_FOUND
            raise
        return self._handle([self._read(each) for each in _listed(answer, "deliveries")])

    def close(self) -> None:
        """End, and close the connections."""
        self.stop()
        self._transport.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, pulse: Pulse) -> None:
        failures = Failures(logger, f"Pulling from {self._topic}/{self._name}", _MAX_BACKOFF_S)
        while not pulse.stopping:
            try:
                self.run_once()
            except Exception as error:
                pulse.pause(failures.note(error))
            else:
                failures.end()

    def _subscribe(self) -> None:
        self._put(self._fields)
        self._there = True

    def _put(self, fields: Mapping[str, Any]) -> None:
        body = dump_json(fields).encode()
        self._transport.call("PUT", self._path, content=body, content_type="application/json")

    def _read(self, document: Mapping[str, Any]) -> Pulled:
        ack_id = document.get("ack_id")
        try:
            return Pulled(ack_id, read_pulled(self._topic, self._name, document))
        except MalformedEvent as error:
            logger.error(
                "What came from topic %s is no event: %s",
                self._topic,
                error,
                extra={"action": "failed"},
            )
            return Pulled(ack_id, None)

    def _handle(self, pulled: Sequence[Pulled]) -> int:
        done = 0
        outcomes: list[tuple[str, Outcome]] = []
        settled_at = self._clock()
        for position, each in enumerate(pulled, 1):
            outcome = self._take(each)
            done += outcome.done
            if each.ack_id is not None:
                outcomes.append((each.ack_id, outcome))
            if self._clock() - settled_at > SETTLE_S:
                self._settle(outcomes)
                self._extend(pulled[position:])
                outcomes, settled_at = [], self._clock()
        self._settle(outcomes)
        return done

    def _take(self, pulled: Pulled) -> Outcome:
        return (
            Outcome("failed") if pulled.delivery is None else self._reception.take(pulled.delivery)
        )

    def _settle(self, outcomes: Sequence[tuple[str, Outcome]]) -> None:
        self._tell("ack", [ack_id for ack_id, outcome in outcomes if outcome.done])
        failed: dict[float | None, list[str]] = {}
        for ack_id, outcome in outcomes:
            if not outcome.done:
                failed.setdefault(outcome.after_s, []).append(ack_id)
        for delay_s, ack_ids in failed.items():
            self._tell("nack", ack_ids, **({} if delay_s is None else {"delay_s": delay_s}))

    def _extend(self, pulled: Iterable[Pulled]) -> None:
        self._tell("extend", [each.ack_id for each in pulled if each.ack_id is not None])

    def _tell(self, act: Act, ack_ids: Sequence[str], **more: float) -> None:
        if not ack_ids:
            return
        answer = self._call(act, {"ack_ids": list(ack_ids), **more})
        late = sum(each.get("result") != "settled" for each in _listed(answer, "results"))
        if late:
            logger.warning(
                "%d of %d messages of %s/%s were out for longer than they may be: they come again",
                late,
                len(ack_ids),
                self._topic,
                self._name,
                extra={"action": "lapsed"},
            )

    def _call(self, act: Act, body: Mapping[str, Any]) -> Any:
        return self._transport.call(
            "POST",
            f"{self._path}/{act}",
            content=dump_json(body).encode(),
            content_type="application/json",
        ).document


def _default_fields(inbox: Inbox | None) -> dict[str, Any]:
    guarantee = "at-least-once" if inbox is None else "exactly-once"
    return {"start": "beginning", "ordering": "key", "guarantee": guarantee}


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low:g} to {high:g}, not {value!r}")


def _listed(document: Any, name: str) -> list[Mapping[str, Any]]:
    found = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise BrokerUnavailable(f"something other than the broker answered: no {name}")
    return found
