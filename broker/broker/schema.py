"""A topic's JSON Schema: what may be one, and what data that breaks it is told.

Draft 2020-12. `format` is a remark, as that draft has it. Regular expressions are matched in
linear time, which leaves out look-around and back-references. Nothing is fetched: a `$ref` leads to
a place in the schema itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypedDict

import msgspec
from jsonschema_rs import (
    Draft202012Validator,
    RegexOptions,
    ValidationError,
    ValidationErrorKind,
    ValidatorMap,
    validator_map_for,
)

from broker.cloudevents import attributes_of, is_json
from broker.errors import Fault, InvalidRequest
from broker.model import NewMessage
from broker.schema_cost import MOST_CHECKS, checks_of
from broker.schema_faults import Explanation, Schema, place

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_FAULTS = 20
# The time that a check takes grows with the square of the depth.
MAX_DEPTH = 200
_TOO_DEEP = Fault("data", f"is nested too deeply to be checked: {MAX_DEPTH} levels at most")
_TYPES = "array, boolean, integer, null, number, object, string, or a list of these"
_SHOWN = 300


class _Options(TypedDict):
    pattern_options: RegexOptions
    offline: bool
    validate_formats: bool
    mask: str


# Texts say "the value" instead of showing it, which may be large, or nobody else's business.
_OPTIONS: _Options = {
    "pattern_options": RegexOptions(),
    "offline": True,
    "validate_formats": False,
    "mask": "the value",
}


def _compiled(schema: Schema) -> Draft202012Validator:
    return Draft202012Validator(schema, **_OPTIONS)


class DataSchema:
    """A schema, compiled once, that the data of many messages is checked against."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._validator = _compiled(schema)
        self._parts: ValidatorMap | None = None

    def check(self, messages: Sequence[NewMessage], *, batch: bool) -> None:
        """Raise InvalidRequest that names what is wrong where, MAX_FAULTS times at most.

        A field is `data` and the place in it as a JSON Pointer (RFC 6901): `data/items/0/price`. In
        a batch it begins with the position of the event: `[3].data/items/0/price`.
        """
        faults: list[Fault] = []
        for position, message in enumerate(messages):
            if len(faults) >= MAX_FAULTS:
                break
            found = self._faults_of(message, MAX_FAULTS - len(faults))
            prefix = f"[{position}]." if batch else ""
            faults += [Fault(prefix + fault.field, fault.message) for fault in found]
        if faults:
            raise InvalidRequest(faults)

    def _faults_of(self, message: NewMessage, most: int) -> Sequence[Fault]:
        if b'"datacontenttype":' in message.attributes:
            media_type = attributes_of(message.attributes).get("datacontenttype")
            if not is_json(media_type):
                return [Fault("data", f"must be JSON, as the topic has a schema; not {media_type}")]
        if message.data is None:
            return [Fault("data", "is required, as the topic has a schema")]
        try:
            value = msgspec.json.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return [Fault("data", f"must be JSON, as the topic has a schema: {error}")]
        except RecursionError:
            return [_TOO_DEEP]
        brackets = message.data.count(b"[") + message.data.count(b"{")
        if brackets > MAX_DEPTH and _deeper(value, MAX_DEPTH):
            return [_TOO_DEEP]
        if self._validator.is_valid(value):
            return ()
        return Explanation(self.schema, self._all_parts(), _compiled, most).faults(value)

    def _all_parts(self) -> ValidatorMap:
        if self._parts is None:
            self._parts = validator_map_for(self.schema, **_OPTIONS)
        return self._parts


def _deeper(value: object, limit: int) -> bool:
    """Say whether arrays and objects are nested in more than `limit` levels."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def checked(value: object, faults: list[Fault]) -> Schema | None:
    """Return a value that may be a topic's schema; else append what is wrong with it to `faults`.

    A field is `schema` and the place in it, as a JSON Pointer.
    """
    if not isinstance(value, (dict, bool)):
        faults.append(Fault("schema", "must be a JSON Schema: an object, true or false"))
        return None
    try:
        found = list(islice(_faults_in(value), MAX_FAULTS))
    except (ValueError, RecursionError):
        found = [Fault("schema", "is nested too deeply")]
    faults += found
    return None if found else value


def _faults_in(schema: Schema) -> Iterator[Fault]:
    dialect = schema.get("$schema", DIALECT) if isinstance(schema, dict) else DIALECT
    if dialect not in (DIALECT, f"{DIALECT}#"):
        yield Fault("schema/$schema", f'must be "{DIALECT}"')
        return
    told: set[str] = set()
    for error in _META.iter_errors(schema):
        field = place("schema", error.instance_path)
        if field not in told:
            told.add(field)
            yield Fault(field, _rule_broken(error))
    if told:
        return
    if checks_of(schema) > MOST_CHECKS:
        rule = f"refers to its parts so often that a value can need more than {MOST_CHECKS} checks"
        yield Fault("schema", rule)
        return
    try:
        DataSchema(schema)
    except ValidationError as error:
        yield _not_compiled(schema, error)


def _rule_broken(error: ValidationError) -> str:
    """Say what is wrong with a schema, from what its own schema says."""
    if isinstance(error.kind, ValidationErrorKind.AnyOf) and error.instance_path[-1:] == ["type"]:
        return f"must be {_TYPES}"
    return error.message[:_SHOWN]


def _not_compiled(schema: Schema, error: ValidationError) -> Fault:
    if isinstance(error.kind, ValidationErrorKind.Format):
        rule = "must be a regular expression, without look-around and back-references"
        return Fault(place("schema", error.instance_path), rule)
    if isinstance(error.kind, ValidationErrorKind.Referencing):
        return _reference_fault(schema, error.message)
    return Fault(place("schema", error.instance_path), error.message[:_SHOWN])


def _reference_fault(schema: Schema, message: str) -> Fault:
    """Find the reference that could not be followed by what is told of it."""
    for path, reference in _references(schema, ()):
        document, _, pointer = reference.partition("#")
        if (pointer and f"'{pointer}'" in message) or (document and document in message):
            if document:
                rule = "must lead to a place in this schema, #/$defs/… say: nothing is fetched"
            else:
                rule = f"leads nowhere: there is no {reference[:_SHOWN]} in this schema"
            return Fault(place("schema", path), rule)
    return Fault("schema", message[:_SHOWN])


def _references(part: object, path: tuple[str | int, ...]) -> Iterator[tuple[Any, str]]:
    items: Any = ()
    if isinstance(part, Mapping):
        items = part.items()
    elif isinstance(part, list):
        items = enumerate(part)
    for name, value in items:
        if name in {"$ref", "$dynamicRef"} and isinstance(value, str):
            yield (*path, name), value
        else:
            yield from _references(value, (*path, name))


_META = _compiled({"$ref": DIALECT})
