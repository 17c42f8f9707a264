"""What commands are given: names that complete themselves, durations, moments, sizes."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])

COMPLETION_S = 2.0


class Null:
    """Stands for JSON's null, which is not the same as an option that is not given."""


NULL: Final = Null()
_NONE = "none"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d|w)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = re.compile(r"(\d+)\s*([kmgt]i?b?|b)?", re.IGNORECASE)
_BYTES = {"b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


class Name(click.ParamType[str]):
    """The name of something; the broker says which are allowed."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse an empty one, which would make another path."""
        return str(value) if value else self.fail("A name has at least one character.", param, ctx)


class Duration(click.ParamType[float]):
    """Seconds: `90`, `1.5s`, `10m`, `12h`, `7d`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        found = _DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f'"{value}" is not a duration; some are 90, 1.5s, 10m, 12h, 7d.', param, ctx)
        seconds = float(found[1]) * _SECONDS[found[2] or "s"]
        return int(seconds) if seconds.is_integer() else seconds


class Size(click.ParamType[int]):
    """Bytes: `1000000`, `64KiB`, `10GiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f'"{value}" is not a size; some are 1000000, 64KiB, 10GiB.', param, ctx)
        return int(found[1]) * _BYTES[(found[2] or "b")[0].lower()]


class Moment(click.ParamType[str]):
    """A time: RFC 3339, or `+` and a duration from now. The broker judges the first."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        text = str(value)
        if not text.startswith("+"):
            return text
        ahead = Duration().convert(text[1:], param, ctx)
        try:
            at = datetime.now(UTC) + timedelta(seconds=ahead)
        except OverflowError:
            self.fail(f"{text} is too far ahead.", param, ctx)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class OrNone(click.ParamType[Any]):
    """Something, or `none`: the broker's default, or no limit."""

    def __init__(self, inner: click.ParamType[Any]) -> None:
        self._inner = inner
        self.name = f"{inner.name}|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        if value is NULL or value == _NONE:
            return NULL
        return self._inner.convert(value, param, ctx)


def complete_topics(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Name the topics of the running broker."""
    return _named(context, incomplete, "topics", ("topics",))


def complete_subscriptions(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Name the subscriptions of the topic that was given before."""
    topic = context.params.get("topic")
    if not topic:
        return []
    return _named(context, incomplete, "subscriptions", ("topics", topic, "subscriptions"))


def complete_keys(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Name the ids of the running broker's API keys."""
    return _named(context, incomplete, "keys", ("keys",), by="id")


def _named(
    context: click.Context, incomplete: str, member: str, parts: tuple[str, ...], by: str = "name"
) -> list[CompletionItem]:
    """Ask for names; whoever presses a key wants no complaint, so none is made."""
    from broker.cli.connection import path_of
    from broker.cli.remote import Remote

    try:
        answer = Remote(context).connect().get(path_of(*parts), within_s=COMPLETION_S)
        found = answer.document()[member]
    except (click.ClickException, ValueError, KeyError):
        return []
    return [CompletionItem(each[by]) for each in found if each[by].startswith(incomplete)]


def topic_argument(*, required: bool = True) -> Callable[[Command], Command]:
    """Take the name of a topic."""
    return click.argument("topic", type=Name(), shell_complete=complete_topics, required=required)


def subscription_argument() -> Callable[[Command], Command]:
    """Take the name of a subscription, behind that of its topic."""
    return click.argument("subscription", type=Name(), shell_complete=complete_subscriptions)


def key_argument() -> Callable[[Command], Command]:
    """Take the id of an API key."""
    return click.argument("id_", metavar="ID", type=Name(), shell_complete=complete_keys)


SEQUENCE = click.IntRange(min=1)


def pairs(texts: tuple[str, ...], between: str, option: str) -> Mapping[str, str]:
    """Read `name=value` options. Raises UsageError."""
    found = {}
    for text in texts:
        name, sign, value = text.partition(between)
        if not sign or not name.strip():
            raise click.UsageError(f'{option} takes name{between}value, not "{text}".')
        found[name.strip()] = value.strip() if between == ":" else value
    return found
