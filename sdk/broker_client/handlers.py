"""The handlers an application has registered, and the subscriptions they need."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker_client.event import Event
from broker_client.names import check_name

Handler = Callable[[Event, Any], object]


@dataclass(frozen=True, slots=True)
class Registration:
    """One handler; `subscription` None means the subscriber's own name, `types` None all types."""

    topic: str
    subscription: str | None
    types: frozenset[str] | None
    fields: Mapping[str, Any]
    handler: Handler

    def takes(self, event: Event) -> bool:
        """Say whether the handler wants events of this type."""
        return self.types is None or event.type in self.types


class Handlers:
    """An ordered list of registrations, asked by topic and subscription."""

    def __init__(self) -> None:
        self._registrations: list[Registration] = []

    def add(self, registration: Registration) -> None:
        """Add a handler. Raises ValueError for a name or fields that cannot be."""
        check_name("topic", registration.topic)
        if registration.subscription is not None:
            check_name("subscription", registration.subscription)
        if "secret" in registration.fields:
            raise ValueError("the secret is the setting BROKER_WEBHOOK_SECRET, not a field")
        for other in self._registrations:
            _check_agreement(registration, other)
        _check_later(self._fields_with(registration))
        self._registrations.append(registration)

    def subscriptions(self, default_name: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Return each subscription's fields by topic and name; handlers of one add theirs up."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for one in self._registrations:
            name = default_name if one.subscription is None else one.subscription
            found.setdefault((one.topic, name), {}).update(one.fields)
        return found

    def _fields_with(self, registration: Registration) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for one in (*self._registrations, registration):
            if _subscription_of(one) == _subscription_of(registration):
                fields.update(one.fields)
        return fields

    def find_subscription(self, topic: str, named: str | None, default_name: str) -> str | None:
        """Return which subscription a request is for: the one named, or the topic's only one."""
        names = [name for of_topic, name in self.subscriptions(default_name) if of_topic == topic]
        if named in names:
            return named
        return names[0] if len(names) == 1 else None

    def matching(
        self, topic: str, subscription: str, event: Event, default_name: str
    ) -> Sequence[Handler]:
        """Return the handlers that take an event, in the order of their registration."""
        return [
            one.handler
            for one in self._registrations
            if one.topic == topic
            and (default_name if one.subscription is None else one.subscription) == subscription
            and one.takes(event)
        ]


def _subscription_of(registration: Registration) -> tuple[str, str | None]:
    return registration.topic, registration.subscription


def _check_later(fields: Mapping[str, Any]) -> None:
    if fields.get("allow_later") and fields.get("format") == "batch":
        # One ack URL is for the whole batch, and a handler knows of one event only.
        raise ValueError("allow_later needs the format binary or structured, not batch")


def _check_agreement(one: Registration, other: Registration) -> None:
    if _subscription_of(one) != _subscription_of(other):
        return
    for name in one.fields.keys() & other.fields.keys():
        if one.fields[name] != other.fields[name]:
            raise ValueError(f"two handlers of topic {one.topic} want different {name}")
