"""Scopes: what a key allows, to which topics."""

import re
from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

from msgspec import Struct

from broker.errors import Fault, InvalidRequest

Action: TypeAlias = Literal["publish", "subscribe", "read", "admin"]

MAX_SCOPES = 50
_TOPICS = r"(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,127}\*?)"
_TOPIC_PATTERN = re.compile(_TOPICS)
SCOPE = f"(admin|(publish|subscribe|read):{_TOPICS})"  # as a regular expression
_WITH_PATTERN: dict[str, Action] = {
    "publish": "publish",
    "subscribe": "subscribe",
    "read": "read",
}
RULE = (
    "must be admin, or publish:, subscribe: or read: and a topic's name, "
    "the beginning of one and a *, or * alone"
)


class Scope(Struct, frozen=True):
    """One action, on the topics that a pattern names: a name, or what names begin with and a `*`.

    `admin` has no pattern and allows everything.
    """

    action: Action
    pattern: str = "*"

    def covers(self, actions: Collection[Action], topic: str | None) -> bool:
        """Say whether it allows one of these actions on a topic; None means on all of them."""
        if self.action == "admin":
            return True
        if self.action not in actions:
            return False
        if self.pattern == "*":
            return True
        if topic is None:
            return False
        if self.pattern.endswith("*"):
            return topic.startswith(self.pattern[:-1])
        return topic == self.pattern

    def __str__(self) -> str:
        return "admin" if self.action == "admin" else f"{self.action}:{self.pattern}"


ADMIN = Scope("admin")


def parse_scope(text: str) -> Scope:
    """Read `admin` or `<action>:<pattern>`. Raises ValueError."""
    if text == "admin":
        return ADMIN
    name, _, pattern = text.partition(":")
    action = _WITH_PATTERN.get(name)
    if action is None or not _TOPIC_PATTERN.fullmatch(pattern):
        raise ValueError(text)
    return Scope(action, pattern)


def parse_scopes(value: object) -> tuple[Scope, ...]:
    """Read the `scopes` of a request, each once. Raises InvalidRequest that names every fault."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SCOPES:
        raise InvalidRequest([Fault("scopes", f"must be a list of 1 to {MAX_SCOPES} scopes")])
    faults = [
        Fault(f"scopes[{position}]", RULE) for position, text in enumerate(value) if not _is(text)
    ]
    if faults:
        raise InvalidRequest(faults)
    return tuple(dict.fromkeys(parse_scope(text) for text in value))


def allows(scopes: Iterable[Scope], actions: Collection[Action], topic: str | None) -> bool:
    """Say whether any of the scopes allows one of these actions on a topic, or on all of them."""
    return any(scope.covers(actions, topic) for scope in scopes)


def _is(text: object) -> bool:
    try:
        parse_scope(text if isinstance(text, str) else "")
    except ValueError:
        return False
    return True
