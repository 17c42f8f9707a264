"""Fields of a JSON body: what may stand in each, once for the check and for the documentation."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from broker.errors import Fault, InvalidRequest

Schema: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[Any], Any]

MAX_INTEGER = 2**53 - 1  # what every reader of JSON keeps exactly: RFC 8259, section 6


class Refused(ValueError):
    """A value is wrong in some of its parts; the fields of the faults begin within the value."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Field:
    """What may stand in a field.

    `check` returns the value to keep, or raises ValueError that says what is allowed; `schema` says
    the same as JSON Schema, as far as that can.
    """

    check: Check
    schema: Schema

    def says(self, description: str) -> "Field":
        """Describe it."""
        return replace(self, schema={**self.schema, "description": description})


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON object by its fields. A null stands for an absent field.

    `also` has what its schema says over and above each single field.
    """

    name: str
    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    also: Schema = field(default_factory=dict)

    def read(self, body: Mapping[str, object]) -> tuple[dict[str, Any], list[Fault]]:
        """Return the values given, null as None, and every fault."""
        values: dict[str, Any] = {}
        faults: list[Fault] = []
        for name, value in body.items():
            known = self.fields.get(name)
            if known is None:
                rule = f"is not a field; there are {', '.join(self.fields)}"
                faults.append(Fault(name, rule))
            elif value is None:
                values[name] = None
            else:
                _check(name, known.check, value, values, faults)
        faults += [Fault(name, "is required") for name in self.required if body.get(name) is None]
        return values, faults

    def require(self, body: Mapping[str, object]) -> dict[str, Any]:
        """Return the values given, null as None. Raises InvalidRequest that names every fault."""
        values, faults = self.read(body)
        if faults:
            raise InvalidRequest(faults)
        return values

    def defaults(self, values: Mapping[str, Any]) -> "Body":
        """Tell what absent fields mean, of those fields that `values` has."""
        told = {
            name: replace(each, schema={**each.schema, "default": values[name]})
            if name in values
            else each
            for name, each in self.fields.items()
        }
        return replace(self, fields=told)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        properties = {
            name: each.schema if name in self.required else nullable(each.schema)
            for name, each in self.fields.items()
        }
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if self.required:
            schema["required"] = list(self.required)
        return {**schema, "additionalProperties": False, **self.also}


def _check(
    name: str, check: Check, value: object, values: dict[str, Any], faults: list[Fault]
) -> None:
    try:
        values[name] = check(value)
    except Refused as refused:
        faults += [Fault(name + fault.field, fault.message) for fault in refused.faults]
    except ValueError as error:
        faults.append(Fault(name, str(error)))


def nullable(schema: Schema) -> dict[str, Any]:
    """Return a schema that takes null as well."""
    changed = dict(schema)
    if "anyOf" in schema:
        changed["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("type"), str):
        changed["type"] = [schema["type"], "null"]
    elif "type" in schema and "null" not in schema["type"]:
        changed["type"] = [*schema["type"], "null"]
    if "enum" in schema:
        changed["enum"] = [*schema["enum"], None]
    return changed


def ecma(pattern: str) -> str:
    r"""Write a Python pattern for a whole text, \A…\Z, as JSON Schema has it: ^…$."""
    return re.sub(r"^\\A", "^", re.sub(r"\\Z$", "$", pattern))


def moment() -> dict[str, Any]:
    """Return the schema of a time that the calendar has, from the year 1 on."""
    return {"type": "string", "format": "date-time", "pattern": "^(?!0000)"}


def integer(low: int, high: int) -> Field:
    """A whole number."""

    def check(value: object) -> int:
        found = whole(value)
        if found is None or not low <= found <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return found

    return Field(check, {"type": "integer", "minimum": low, "maximum": high})


def seconds(low: float, high: float) -> Field:
    """A duration."""
    return number(low, high, f"must be seconds from {low} to {high}")


def number(low: float, high: float, rule: str) -> Field:
    """A number, whole or not."""

    def check(value: object) -> float:
        usable = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not usable or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type,operator]
            raise ValueError(rule)
        return float(value)  # type: ignore[arg-type]

    return Field(check, {"type": "number", "minimum": low, "maximum": high})


def one_of(*choices: str) -> Field:
    """One of some words."""

    def check(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return str(value)

    return Field(check, {"type": "string", "enum": list(choices)})


def flag() -> Field:
    """True or false."""

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    return Field(check, {"type": "boolean"})


def integers(low: int, high: int, rule: str, *, least: int = 0, most: int) -> Field:
    """A list of whole numbers."""
    told = f"must be a whole number from {low}"

    def check(value: object) -> list[int]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise ValueError(rule)
        faults = [
            Fault(f"[{position}]", told)
            for position, each in enumerate(value)
            if (found := whole(each)) is None or not low <= found <= high
        ]
        if faults:
            raise Refused(faults[:20])
        return [int(each) for each in value]

    items = {"type": "integer", "minimum": low, "maximum": high}
    return Field(check, {"type": "array", "items": items, "minItems": least, "maxItems": most})


def nested(body: Body) -> Field:
    """An object with fields of its own."""

    def check(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        values, faults = body.read(value)
        if faults:
            raise Refused([Fault(f".{fault.field}", fault.message) for fault in faults])
        return values

    return Field(check, body.schema())


def whole(value: object) -> int | None:
    """Return a number without a fraction, which JSON may write as 1.0 too; else None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
