"""Keeping an application's subscriptions in being at the broker."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from broker_client.answers import Answer
from broker_client.background import Background, Failures, Pulse
from broker_client.errors import BrokerRefused
from broker_client.formats import dump_json
from broker_client.transport import Transport

RENEW_S = 60.0
"""How often each subscription is put again, should the broker have lost it."""
_MAX_BACKOFF_S = 10.0
_CREATED = 201
_INVALID = 422

logger = logging.getLogger("broker_client.subscriptions")


@dataclass(frozen=True, slots=True)
class WantedSubscription:
    """A subscription that shall exist: `fields` is what is put, without the secret.

    `preferred` are further fields that nobody insists on: a broker too old for them is put the
    others only. A field in both has the value in `fields`.
    """

    topic: str
    name: str
    fields: Mapping[str, Any]
    preferred: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Return its path at the broker."""
        return _path(self.topic, self.name)


class SubscriptionKeeper:
    """Puts the wanted subscriptions in the background, at the start and again every minute.

    `wanted` and `secret` are asked anew each time; failures are tried again after a growing wait.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        wanted: Callable[[], Sequence[WantedSubscription]],
        secret: Callable[[], str],
        renew_s: float = RENEW_S,
    ) -> None:
        self._transport = transport
        self._wanted = wanted
        self._secret = secret
        self._renew_s = renew_s
        self._made: dict[str, Answer] = {}
        self._reduced: set[str] = set()
        self._background = Background("subscriptions", self._run)

    @property
    def ready(self) -> bool:
        """Say whether each wanted subscription has been put by this process."""
        return all(subscription.path in self._made for subscription in self._wanted())

    def reads_verdicts(self, topic: str, name: str) -> bool:
        """Say whether the broker is known to read verdicts beside a 2xx: it has `allow_later`."""
        answer = self._made.get(_path(topic, name))
        return answer is not None and "allow_later" in (answer.document or {})

    def start(self) -> None:
        """Begin, unless begun in this process."""
        self._background.start()

    def stop(self) -> None:
        """Stop; the subscriptions stay."""
        self._background.stop()

    def ring(self) -> None:
        """Look at what is wanted now."""
        self._background.ring()

    def _run(self, pulse: Pulse) -> None:
        failures = Failures(logger, "Subscribing", _MAX_BACKOFF_S)
        with closing(self._transport):
            while not pulse.stopping:
                pulse.silence()
                self._put_and_wait(pulse, failures)

    def _put_and_wait(self, pulse: Pulse, failures: Failures) -> None:
        try:
            self._put_all()
        except Exception as error:
            pulse.pause(failures.note(error))
        else:
            failures.end()
            pulse.rest(self._renew_s)

    def _put_all(self) -> None:
        # All get their turn before the first failure counts: one bad field holds up no other.
        faults = [fault for one in self._wanted() if (fault := self._try(one)) is not None]
        if faults:
            raise faults[0]

    def _try(self, subscription: WantedSubscription) -> Exception | None:
        try:
            self._put(subscription)
        except Exception as error:
            return error
        return None

    def _put(self, subscription: WantedSubscription) -> None:
        answer = self._put_what_is_known(subscription)
        created = answer.status == _CREATED
        if created or subscription.path not in self._made:
            _log_put(subscription, created)
        self._made[subscription.path] = answer

    def _put_what_is_known(self, subscription: WantedSubscription) -> Answer:
        path, preferred = subscription.path, subscription.preferred
        try:
            answer = self._send(path, {**preferred, **subscription.fields})
        except BrokerRefused as refusal:
            if not _only_about(preferred, refusal):
                raise
            answer = self._send(path, subscription.fields)
            if path not in self._reduced:
                _log_reduced(subscription, refusal)
            self._reduced.add(path)
        else:
            self._reduced.discard(path)
        return answer

    def _send(self, path: str, fields: Mapping[str, Any]) -> Answer:
        body = dump_json({**fields, "secret": self._secret()})
        return self._transport.call(
            "PUT", path, content=body.encode(), content_type="application/json", max_attempts=1
        )


def _path(topic: str, name: str) -> str:
    return f"/v1/topics/{topic}/subscriptions/{name}"


def _only_about(fields: Mapping[str, Any], refusal: BrokerRefused) -> bool:
    named = {fault.get("field") for fault in refusal.errors}
    return refusal.status == _INVALID and bool(named) and named <= fields.keys()


def _log_reduced(subscription: WantedSubscription, refusal: BrokerRefused) -> None:
    logger.warning(
        "Subscription %s of topic %s goes without %s, which this broker does not know: %s",
        subscription.name,
        subscription.topic,
        ", ".join(f"{name}={value}" for name, value in subscription.preferred.items()),
        refusal,
        extra={"action": "reduced"},
    )


def _log_put(subscription: WantedSubscription, created: bool) -> None:
    logger.info(
        "Subscription %s of topic %s %s",
        subscription.name,
        subscription.topic,
        "is created" if created else "is there",
        extra={"action": "subscribed"},
    )
