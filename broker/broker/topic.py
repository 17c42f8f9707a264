"""A topic's configuration: its fields, their defaults, and what is allowed in them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from broker.documents import known_fields
from broker.errors import Fault, InvalidRequest
from broker.schema import checked
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
    faults: list[Fault] = []
    changes: dict[str, Any] = {}
    for name, value in body.items():
        if name == "retention":
            changes[name] = _retention(value, before.retention, faults)
        elif name == "dedup_window_s":
            changes[name] = _number(name, value, 86400, (int, float), faults)
        elif name == "schema":
            changes[name] = None if value is None else checked(value, faults)
        else:
            rule = "is not a field; there are dedup_window_s, retention, schema"
            faults.append(Fault(name, rule))
    if faults:
        raise InvalidRequest(faults)
    return replace(before, **changes)


def _retention(value: object, before: Retention, faults: list[Fault]) -> Retention:
    if value is None:
        return Retention()
    if not isinstance(value, dict):
        faults.append(Fault("retention", "must be an object"))
        return before
    changes: dict[str, Any] = {}
    for name, item in value.items():
        kinds = _RETENTION_FIELDS.get(name)
        if kinds is None:
            known = ", ".join(_RETENTION_FIELDS)
            faults.append(Fault(f"retention.{name}", f"is not a field; there are {known}"))
        else:
            default = getattr(Retention(), name)
            changes[name] = _number(f"retention.{name}", item, default, kinds, faults)
    return replace(before, **changes)


def _number(
    name: str,
    value: object,
    default: float | None,
    kinds: tuple[type, ...],
    faults: list[Fault],
) -> Any:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < 2**53:  # type: ignore[operator]
        kind = "number" if float in kinds else "whole number"
        faults.append(Fault(name, f"must be a {kind} above 0, or null"))
        return default
    return value


_RETENTION_FIELDS: dict[str, tuple[type, ...]] = {
    "max_age_s": (int, float),
    "max_bytes": (int,),
    "max_messages": (int,),
}
