"""Taking a subscription's messages by pull, and having each handled."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self

from broker_client.background import Background, Failures, Pulse
from broker_client.closing import Closing
from broker_client.delivery import read_pulled
from broker_client.errors import BrokerRefused, BrokerUnavailable
from broker_client.formats import dump_json
from broker_client.handlers import Handler
from broker_client.inbox import Inbox
from broker_client.leases import Leases
from broker_client.pull_subscription import PullSubscription, check_range, delay_of, is_lost
from broker_client.reception import Outcome
from broker_client.transport import Transport

Act = Literal["pull", "ack", "nack", "extend"]

MAX_PULLED = 1000
"""How many messages the broker gives in one answer."""
MAX_WAIT_S = 30.0
"""How long the broker waits for a message, in seconds."""
EMPTY_PAUSE_S = 0.05
"""How long to wait after an answer without a message: the broker may not have waited."""
_MARGIN_S = 10.0  # what an answer may take beyond the wait that was asked for
_MAX_BACKOFF_S = 10.0
_NOT_FOUND = 404

logger = logging.getLogger("broker_client.pull_consumer")


class PullConsumer(Closing):
    """Pulls a subscription's messages, and has each handled; no endpoint is needed.

    `handler` is called with the event and what `transaction` gives, as a handler of the Flask
    extension is: the inbox's record of the event and the handler's effects are committed together,
    `transaction` is `inbox.transaction` unless given, and without either it gives None. Whatever
    the handler raises rolls back, and the event comes again: after `Retry.after_s`, or after the
    subscription's backoff, `max_attempts` times in all. `DeadLetter` is a failed attempt like any
    other, for a puller cannot give a message up.

    The subscription is created with `fields`, such as `ack_deadline_s=120`; `start` is "beginning",
    `ordering` "key" and `guarantee` exactly-once unless given, or at-least-once where there is no
    inbox. `max_messages` are pulled at a time, 1 to 1,000, and handled one after another; any
    number of consumers may share the subscription. What is handled, and what waits behind it, stays
    this consumer's however long that takes; it goes to somebody else `ack_deadline_s` (30 s) after
    the consumer, or its way to the broker, is gone. `wait_s`, 0 to 30, is how long the broker waits
    for a message.
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
        self._subscription = PullSubscription(
            topic,
            subscription,
            handler,
            inbox=inbox,
            transaction=transaction,
            fields=fields,
            logger=logger,
        )
        check_range("max_messages", max_messages, 1, MAX_PULLED)
        check_range("wait_s", wait_s, 0, MAX_WAIT_S)
        self._path = f"/v1/topics/{topic}/subscriptions/{subscription}"
        self._wanted = {"max_messages": max_messages, "wait_s": wait_s}
        self._clock = clock
        self._transport = Transport(base_url, api_key=api_key, timeout_s=wait_s + _MARGIN_S)
        self._deadline_s: float | None = None  # of the subscription, once it is known to be there
        self._background = Background(f"pull {self._subscription}", self._run)

    def start(self) -> None:
        """Pull in a thread of its own, unless that has begun in this process."""
        self._background.start()

    def stop(self, timeout_s: float = MAX_WAIT_S + _MARGIN_S) -> None:
        """End once the pull under way is answered, and what it brought is handled.

        Waits for that, but no longer than `timeout_s`.
        """
        self._background.stop(timeout_s)

    def run_once(self) -> int:
        """Pull once and handle what comes; return how many messages were done.

        For scripts and tests. Raises BrokerRefused, BrokerUnavailable.
        """
        _, done = self._once()
        return done

    def close(self) -> None:
        """End, and close the connections."""
        self.stop()
        self._transport.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def _run(self, pulse: Pulse) -> None:
        failures = Failures(logger, f"Pulling from {self._subscription}", _MAX_BACKOFF_S)
        while not pulse.stopping:
            try:
                pulled, _ = self._once()
            except Exception as error:
                pulse.pause(failures.note(error))
            else:
                failures.end()
                if not pulled:
                    pulse.pause(EMPTY_PAUSE_S)

    def _once(self) -> tuple[int, int]:
        """Pull and handle; return how many messages came, and how many of them were done."""
        if self._deadline_s is None:
            self._deadline_s = self._subscribe()
        deadline_s = self._deadline_s
        pulled = self._pull()
        return len(pulled), self._handle(pulled, deadline_s)

    def _subscribe(self) -> float:
        """Create the subscription unless it is there; return its `ack_deadline_s`."""
        answer = self._call("PUT", self._path, self._subscription.fields)
        if not isinstance(answer, Mapping):
            raise BrokerUnavailable("something other than the broker answered: no subscription")
        return self._subscription.deadline_s(answer.get("ack_deadline_s"))

    def _pull(self) -> list[Mapping[str, Any]]:
        try:
            answer = self._tell("pull", self._wanted, max_attempts=1)
        except BrokerRefused as refusal:
            if refusal.status == _NOT_FOUND:
                self._deadline_s = None
            raise
        return _listed(answer, "deliveries")

    def _handle(self, pulled: Sequence[Mapping[str, Any]], deadline_s: float) -> int:
        done = 0
        failure: BrokerUnavailable | None = None
        held = [ack_id for each in pulled if (ack_id := each.get("ack_id")) is not None]
        with Leases(held, deadline_s, self._extend, self._clock) as leases:
            for each in pulled:
                ack_id = each.get("ack_id")  # None: handing it out has settled it
                if ack_id is not None and not leases.hold(ack_id):
                    # Somebody else may have it, and what follows it, by now.
                    self._subscription.log_lapsed()
                    continue
                outcome = self._take(each)
                done += outcome.done
                if ack_id is None:
                    continue
                leases.end(ack_id)
                try:
                    self._settle(ack_id, outcome)
                except BrokerUnavailable as error:  # the others are still ours, as long as they are
                    failure = error
        if failure is not None:
            raise failure
        return done

    def _take(self, pulled: Mapping[str, Any]) -> Outcome:
        topic, name = self._subscription.topic, self._subscription.name
        return self._subscription.take(lambda: read_pulled(topic, name, pulled))

    def _settle(self, ack_id: str, outcome: Outcome) -> None:
        body: dict[str, Any] = {"ack_ids": [ack_id]}
        delay_s = delay_of(outcome)
        if not outcome.done and delay_s is not None:
            body["delay_s"] = delay_s
        if _lapsed(self._tell("ack" if outcome.done else "nack", body)):
            self._subscription.log_lapsed()

    def _extend(self, ack_ids: Collection[str]) -> Collection[str]:
        return _lapsed(self._tell("extend", {"ack_ids": list(ack_ids)}, max_attempts=1))

    def _tell(self, act: Act, body: Mapping[str, Any], *, max_attempts: int | None = None) -> Any:
        return self._call("POST", f"{self._path}/{act}", body, max_attempts)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any], max_attempts: int | None = None
    ) -> Any:
        return self._transport.call(
            method,
            path,
            content=dump_json(body).encode(),
            content_type="application/json",
            max_attempts=max_attempts,
        ).document


def _lapsed(answer: Any) -> list[str]:
    """Return the ack ids that were not settled: their leases are over."""
    results = _listed(answer, "results")
    return [str(each.get("ack_id")) for each in results if is_lost(each.get("result"))]


def _listed(document: Any, name: str) -> list[Mapping[str, Any]]:
    found = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise BrokerUnavailable(f"something other than the broker answered: no {name}")
    return found
