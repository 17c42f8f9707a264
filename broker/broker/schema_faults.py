"""Why data does not fit a JSON Schema: which places of it, and what is wanted there.

A validator's own list of errors grows beyond all bounds where a schema refers to itself within
anyOf or oneOf. Here one place is looked at after the other, each asked only whether it fits, and
the search ends with enough faults.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote

import msgspec

from broker.errors import Fault

Schema: TypeAlias = dict[str, Any] | bool
Path: TypeAlias = tuple[str | int, ...]

DEEPEST = 64
_SHOWN = 200


class Part(Protocol):
    """A compiled schema."""

    def is_valid(self, instance: Any) -> bool:
        """Say whether a value fits it."""


class Parts(Protocol):
    """Every schema within a schema, by its place: `#/properties/price`."""

    def get(self, pointer: str) -> Part | None:
        """Return one, if there is one at this place."""


def place(root: str, path: Iterable[str | int]) -> str:
    """Write a place as a JSON Pointer (RFC 6901) that begins with the name of its root."""
    return "".join((root, *(f"/{_escaped(step)}" for step in path)))[:_SHOWN]


def _escaped(step: str | int) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")


@dataclass(frozen=True, slots=True)
class At:
    """A keyword: its place in the schema, what has it, what it says; and the value it is about."""

    pointer: str
    schema: dict[str, Any]
    wanted: Any
    value: Any
    path: Path


class Explanation:
    """One value's way through a schema that it does not fit.

    `compiled` compiles a small schema that refers to no other. There are `most` faults at most.
    """

    def __init__(
        self, schema: Schema, parts: Parts, compiled: Callable[[Schema], Part], most: int
    ) -> None:
        self._schema = schema
        self._parts = parts
        self._compiled = compiled
        self._most = most
        self._faults: list[Fault] = []
        self._visited: set[tuple[str, Path]] = set()
        self._patterns: dict[str, Part] = {}
        # A part with an $id is a document of its own, where references begin anew.
        inner_ids = msgspec.json.encode(schema).count(b'"$id":')
        self._one_document = inner_ids <= (isinstance(schema, dict) and "$id" in schema)

    def faults(self, value: object) -> list[Fault]:
        """Return what is wrong, one fault at least."""
        self._explain("#", self._schema, value, ())
        return self._faults

    def _full(self) -> bool:
        return len(self._faults) >= self._most

    def _add(self, path: Path, rule: str) -> None:
        if not self._full():
            self._faults.append(Fault(place("data", path), rule))

    def _fits(self, pointer: str, value: object) -> bool:
        part = self._parts.get(pointer)
        return part is not None and part.is_valid(value)

    def _explain(self, pointer: str, schema: Schema, value: object, path: Path) -> None:
        if self._full() or (pointer, path) in self._visited or self._fits(pointer, value):
            return
        self._visited.add((pointer, path))
        before = len(self._faults)
        if isinstance(schema, dict) and len(path) < DEEPEST:
            for keyword, wanted in schema.items():
                below = f"{pointer}/{_escaped(keyword)}"
                self._explain_keyword(keyword, At(below, schema, wanted, value, path))
        if len(self._faults) == before:
            self._add(path, _rest(schema, value))

    def _explain_keyword(self, keyword: str, at: At) -> None:
        if keyword in _RULES:
            if not self._compiled({keyword: at.wanted}).is_valid(at.value):
                self._add(at.path, _RULES[keyword](at.wanted))
        elif keyword in _IN_PLACE:
            _IN_PLACE[keyword](self, at)
        elif keyword in _OF_OBJECTS and isinstance(at.value, dict):
            _OF_OBJECTS[keyword](self, at)
        elif keyword in _OF_ARRAYS and isinstance(at.value, list):
            _OF_ARRAYS[keyword](self, at)

    # -- keywords that look at the same value ------------------------------------------------------

    def _ref(self, at: At) -> None:
        pointer = unquote(at.wanted)
        found = _follow(self._schema, pointer) if self._one_document else None
        if found is not None and self._parts.get(pointer) is not None:
            self._explain(pointer, found, at.value, at.path)

    def _all_of(self, at: At) -> None:
        for number, part in enumerate(at.wanted):
            self._explain(f"{at.pointer}/{number}", part, at.value, at.path)

    def _any_of(self, at: At) -> None:
        if not self._count_fitting(at):
            self._add(at.path, f"must fit one of the {len(at.wanted)} schemas in anyOf")

    def _one_of(self, at: At) -> None:
        count = self._count_fitting(at)
        if count != 1:
            rule = f"must fit exactly one of the {len(at.wanted)} schemas in oneOf; it fits {count}"
            self._add(at.path, rule)

    def _count_fitting(self, at: At) -> int:
        return sum(self._fits(f"{at.pointer}/{n}", at.value) for n in range(len(at.wanted)))

    def _not(self, at: At) -> None:
        if self._fits(at.pointer, at.value):
            self._add(at.path, "must not fit the schema in not")

    def _if(self, at: At) -> None:
        branch = "then" if self._fits(at.pointer, at.value) else "else"
        if branch in at.schema:
            pointer = f"{at.pointer.removesuffix('/if')}/{branch}"
            self._explain(pointer, at.schema[branch], at.value, at.path)

    # -- keywords of objects -----------------------------------------------------------------------

    def _required(self, at: At) -> None:
        for name in at.wanted:
            if name not in at.value:
                self._add((*at.path, name), "is required")

    def _dependent_required(self, at: At) -> None:
        for name, others in at.wanted.items():
            for other in others:
                if name in at.value and other not in at.value:
                    self._add((*at.path, other), f"is required where there is {_shown(name)}")

    def _dependent_schemas(self, at: At) -> None:
        for name, part in at.wanted.items():
            if name in at.value:
                self._explain(f"{at.pointer}/{_escaped(name)}", part, at.value, at.path)

    def _properties(self, at: At) -> None:
        for name, part in at.wanted.items():
            if name in at.value:
                pointer = f"{at.pointer}/{_escaped(name)}"
                self._explain(pointer, part, at.value[name], (*at.path, name))

    def _pattern_properties(self, at: At) -> None:
        for pattern, part in at.wanted.items():
            pointer = f"{at.pointer}/{_escaped(pattern)}"
            for name, item in at.value.items():
                if self._full():
                    return
                if not self._fits(pointer, item) and self._matches(pattern, name):
                    self._explain(pointer, part, item, (*at.path, name))

    def _additional_properties(self, at: At) -> None:
        known = at.schema.get("properties", {})
        patterns = at.schema.get("patternProperties", {})
        for name, item in at.value.items():
            if self._full():
                return
            if name in known or self._fits(at.pointer, item):
                continue
            if not any(self._matches(pattern, name) for pattern in patterns):
                self._explain(at.pointer, at.wanted, item, (*at.path, name))

    def _property_names(self, at: At) -> None:
        for name in at.value:
            if self._full():
                return
            if not self._fits(at.pointer, name):
                self._add((*at.path, name), "is not an allowed name")

    def _matches(self, pattern: str, name: str) -> bool:
        if pattern not in self._patterns:
            self._patterns[pattern] = self._compiled({"pattern": pattern})
        return self._patterns[pattern].is_valid(name)

    # -- keywords of arrays ------------------------------------------------------------------------

    def _prefix_items(self, at: At) -> None:
        for number, (part, item) in enumerate(zip(at.wanted, at.value, strict=False)):
            self._explain(f"{at.pointer}/{number}", part, item, (*at.path, number))

    def _items(self, at: At) -> None:
        for number in range(len(at.schema.get("prefixItems", ())), len(at.value)):
            if self._full():
                return
            self._explain(at.pointer, at.wanted, at.value[number], (*at.path, number))

    def _contains(self, at: At) -> None:
        low, high = at.schema.get("minContains", 1), at.schema.get("maxContains")
        count = sum(self._fits(at.pointer, item) for item in at.value)
        if count < low:
            self._add(at.path, f"must have at least {low} items that fit the schema in contains")
        elif high is not None and count > high:
            self._add(at.path, f"must have at most {high} items that fit the schema in contains")


def _follow(schema: Schema, pointer: str) -> Schema | None:
    """Return the part of a schema that a local reference leads to, if that is plain to see."""
    if pointer != "#" and not pointer.startswith("#/"):
        return None
    found: Any = schema
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found if isinstance(found, (dict, bool)) else None


def _rest(schema: Schema, value: object) -> str:
    """Say what is wrong where no keyword by itself is the reason."""
    if schema is False:
        return "is not allowed"
    if isinstance(schema, dict):
        if "unevaluatedProperties" in schema and isinstance(value, dict):
            return "has properties that are not allowed here"
        if "unevaluatedItems" in schema and isinstance(value, list):
            return "has items that are not allowed here"
    return "does not fit the topic's schema"


def _type(wanted: str | list[str]) -> str:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    return f"must be of type {' or '.join(kinds)}"


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# Keywords that need nothing but themselves, and what they ask for.
_RULES: dict[str, Callable[[Any], str]] = {
    "type": _type,
    "enum": lambda wanted: f"must be one of {_shown(wanted)}",
    "const": lambda wanted: f"must be {_shown(wanted)}",
    "minimum": lambda wanted: f"must be at least {_shown(wanted)}",
    "maximum": lambda wanted: f"must be at most {_shown(wanted)}",
    "exclusiveMinimum": lambda wanted: f"must be above {_shown(wanted)}",
    "exclusiveMaximum": lambda wanted: f"must be below {_shown(wanted)}",
    "multipleOf": lambda wanted: f"must be a multiple of {_shown(wanted)}",
    "minLength": lambda wanted: f"must have at least {_shown(wanted)} characters",
    "maxLength": lambda wanted: f"must have at most {_shown(wanted)} characters",
    "pattern": lambda wanted: f"must match the regular expression {_shown(wanted)}",
    "minItems": lambda wanted: f"must have at least {_shown(wanted)} items",
    "maxItems": lambda wanted: f"must have at most {_shown(wanted)} items",
    "uniqueItems": lambda _: "must have no item twice",
    "minProperties": lambda wanted: f"must have at least {_shown(wanted)} properties",
    "maxProperties": lambda wanted: f"must have at most {_shown(wanted)} properties",
}
_Look: TypeAlias = Callable[[Explanation, At], None]
_IN_PLACE: dict[str, _Look] = {
    "$ref": Explanation._ref,
    "allOf": Explanation._all_of,
    "anyOf": Explanation._any_of,
    "oneOf": Explanation._one_of,
    "not": Explanation._not,
    "if": Explanation._if,
}
_OF_OBJECTS: dict[str, _Look] = {
    "required": Explanation._required,
    "dependentRequired": Explanation._dependent_required,
    "dependentSchemas": Explanation._dependent_schemas,
    "properties": Explanation._properties,
    "patternProperties": Explanation._pattern_properties,
    "additionalProperties": Explanation._additional_properties,
    "propertyNames": Explanation._property_names,
}
_OF_ARRAYS: dict[str, _Look] = {
    "prefixItems": Explanation._prefix_items,
    "items": Explanation._items,
    "contains": Explanation._contains,
}
