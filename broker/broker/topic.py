"""A topic's configuration: its fields, their defaults, and what is allowed in them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from broker.documents import known_fields
from broker.errors import Fault
from broker.fields import MAX_INTEGER, Body, Field, Refused, nested, whole
from broker.schema import DIALECT, checked
from broker.schema_faults import Schema


@dataclass(frozen=True, slots=True)
class Retention:
    """How long, and how much, settled messages are kept. None: without limit."""

    max_age_s: float | None = 604800
    max_bytes: int | None = None
    max_messages: int | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """A named log. With a `schema`, data that breaks it is refused."""

    name: str
    retention: Retention = field(default_factory=Retention)
    dedup_window_s: float = 86400
    schema: Schema | None = None
    created_at: float = 0.0

    def to_document(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Topic":
        """Restore it; fields of a newer broker are ignored."""
        values = known_fields(cls, document)
        values["retention"] = Retention(**known_fields(Retention, values.get("retention", {})))
        return cls(**values)


def updated(before: Topic, body: Mapping[str, object]) -> Topic:
    """Apply the fields of a PUT; raise InvalidRequest that names every fault.

    An absent field keeps its value, null restores the default.
    """
    default = Topic(before.name)
    changes = {
        name: getattr(default, name) if value is None else value
        for name, value in FIELDS.require(body).items()
    }
    if isinstance(changes.get("retention"), dict):
        changes["retention"] = _retention(before.retention, changes["retention"])
    return replace(before, **changes)


def _retention(before: Retention, values: Mapping[str, Any]) -> Retention:
    default = Retention()
    return replace(
        before,
        **{
            name: getattr(default, name) if value is None else value
            for name, value in values.items()
        },
    )


def _duration() -> Field:
    def check(value: object) -> int | float:
        usable = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not usable or not 0 < value <= MAX_INTEGER:  # type: ignore[operator]
            raise ValueError("must be a number above 0, or null")
        return value  # type: ignore[return-value]

    return Field(check, {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_INTEGER})


def _amount() -> Field:
    def check(value: object) -> int:
        found = whole(value)
        if found is None or not 0 < found <= MAX_INTEGER:
            raise ValueError("must be a whole number above 0, or null")
        return found

    return Field(check, {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER})


def _json_schema() -> Field:
    def check(value: object) -> Schema | None:
        faults: list[Fault] = []
        found = checked(value, faults)
        if faults:
            raise Refused(
                [Fault(fault.field.removeprefix("schema"), fault.message) for fault in faults]
            )
        return found

    return Field(check, {"type": ["object", "boolean"]})


_RETENTION = Body(
    "RetentionFields",
    {
        "max_age_s": _duration().says("How old messages get"),
        "max_bytes": _amount().says("How many bytes of messages there may be; null: any number"),
        "max_messages": _amount().says("How many messages there may be; null: any number"),
    },
).defaults(asdict(Retention()))
FIELDS = Body(
    "TopicFields",
    {
        "dedup_window_s": _duration().says(
            "For how long a repeat is recognised by its `source` and `id`"
        ),
        "retention": nested(_RETENTION).says(
            "What goes once no subscription is owed it, the oldest first"
        ),
        "schema": _json_schema().says(
            f"JSON Schema ({DIALECT}) of the data; what breaks it is refused. `$ref` leads to "
            "places in it only, and patterns have no look-around and no back-references"
        ),
    },
).defaults({**asdict(Topic("")), "retention": asdict(Retention())})
