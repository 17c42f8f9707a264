"""How much a check against a JSON Schema can come to, for one value and what it is within.

A part that two others refer to is checked twice, and so are the parts that it refers to: forty that
each refer to the next one twice come to a million million checks. A way that leads back to a part
that it comes from is followed once: the validator remembers what it found there, and searches what
it remembers, which takes the longer the more that is.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from broker.schema_faults import Schema

MOST_CHECKS = 10_000

_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_APART = frozenset({"properties", "prefixItems"})  # each of which is for another value
_NOT_CHECKED = frozenset({"$defs", "definitions", "enum", "const", "default", "examples"})
_REFERENCES = frozenset({"$ref", "$dynamicRef"})
_ANCHORS = ("$anchor", "$dynamicAnchor")


def checks_of(schema: Schema) -> int:
    """Count the checks that a value can need, MOST_CHECKS + 1 for more than that.

    They are those of it and of one value within it, one within that, and so on: the worst.
    """
    return _Count(schema).of(schema, schema)


class _Count:
    """The count under way; `document` is the part that references are counted from."""

    def __init__(self, schema: Schema) -> None:
        self._known: dict[int, int] = {}
        self._by_id: dict[str, Any] = {}
        self._by_anchor: dict[str, Any] = {}
        for part in _parts(schema):
            if isinstance(part.get("$id"), str):
                self._by_id[_last_of(part["$id"])] = part
            for anchor in _ANCHORS:
                if isinstance(part.get(anchor), str):
                    self._by_anchor[part[anchor]] = part

    def of(self, part: Any, document: Any) -> int:
        """Count what a part comes to."""
        if not isinstance(part, dict):
            return 1
        if id(part) not in self._known:
            self._known[id(part)] = 0  # while it is being counted: the way back counts once
            below = part if isinstance(part.get("$id"), str) else document
            counts = (self._said(word, value, below) for word, value in part.items())
            self._known[id(part)] = min(1 + sum(counts), MOST_CHECKS + 1)
        return self._known[id(part)]

    def _said(self, keyword: str, value: Any, document: Any) -> int:
        """Count what a keyword comes to."""
        if keyword in _REFERENCES and isinstance(value, str):
            return self.of(*self._referred(value, document))
        if keyword in _NOT_CHECKED or not isinstance(value, (dict, list)):
            return 0
        parts: Iterable[Any] = [value]
        if isinstance(value, list):
            parts = value
        elif keyword in _MAPS:
            parts = value.values()
        counts = [self.of(each, document) for each in parts if isinstance(each, dict)]
        return max(counts, default=0) if keyword in _APART else sum(counts)

    def _referred(self, reference: str, document: Any) -> tuple[Any, Any]:
        """Return the part that a reference leads to, with the document that it is in."""
        name, _, place = reference.partition("#")
        if name:
            document = self._by_id.get(_last_of(name))
        if place and not place.startswith("/"):
            return self._by_anchor.get(place), document
        found = document
        for step in place.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                found = None
        return found, document


def _last_of(id_: str) -> str:
    """Return what tells one document from another, wherever it is said to be."""
    return id_.rstrip("#").rpartition("/")[2]


def _parts(part: Any) -> Iterator[dict[str, Any]]:
    """Yield everything that may be a part of a schema."""
    if isinstance(part, dict):
        yield part
    if isinstance(part, (dict, list)):
        for each in part.values() if isinstance(part, dict) else part:
            yield from _parts(each)
