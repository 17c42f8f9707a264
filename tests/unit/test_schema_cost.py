"""How much a check against a schema can come to, and what is too much."""

from __future__ import annotations

import math
from typing import Any

import pytest

from broker.errors import Fault
from broker.schema import DataSchema, checked
from broker.schema_cost import MOST_CHECKS, checks_of

Json = dict[str, Any]


def doubling(levels: int, word: str = "allOf", *, within: bool = False) -> Json:
    """Make a schema in which each part refers to the next one twice."""

    def branch(n: int) -> Json:
        to = {"$ref": f"#/$defs/d{n}"}
        return {"properties": {"n": to}} if within else to

    parts: Json = {f"d{n}": {word: [branch(n + 1), branch(n + 1)]} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**parts, f"d{levels}": {"type": "string"}}}


def faults_of(schema: Any) -> list[Fault]:
    faults: list[Fault] = []
    checked(schema, faults)
    return faults


@pytest.mark.parametrize("word", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("within", [False, True])
def test_doubling_is_refused_before_it_takes_for_ever(word: str, within: bool) -> None:
    levels = int(math.log2(MOST_CHECKS))
    deep = {"n": "x"}
    for _ in range(levels):
        deep = {"n": deep}  # type: ignore[dict-item]
    taken = doubling(levels - 4, word, within=within)
    assert faults_of(taken) == []
    DataSchema(taken)._validator.is_valid(deep)

    for too_many in (levels + 1, 60):
        (fault,) = faults_of(doubling(too_many, word, within=within))
        assert fault.field == "schema"
        assert f"{MOST_CHECKS} checks" in fault.message


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ({}, "#/$defs/d{}"),
        ({"$anchor": "d{}"}, "#d{}"),
        ({"$dynamicAnchor": "d{}"}, "#d{}"),
        ({"$id": "d{}"}, "d{}"),
        ({"$id": "https://example.com/d{}"}, "https://example.com/d{}#"),
    ],
)
def test_references_of_every_kind_count(name: Json, reference: str) -> None:
    def part(n: int) -> Json:
        named = {keyword: text.format(n) for keyword, text in name.items()}
        to = {"$ref": reference.format(n + 1)}
        return {**named, "allOf": [to, dict(to)]}

    parts = {f"d{n}": part(n) for n in range(40)}
    last = {keyword: text.format(40) for keyword, text in name.items()}
    schema = {"$defs": {**parts, "d40": last}, "$ref": reference.format(0)}
    assert checks_of(schema) > MOST_CHECKS


def test_name_of_a_property_hides_nothing() -> None:
    schema = doubling(40)
    hidden = {"$defs": schema.pop("$defs"), "properties": {"const": schema, "enum": schema}}
    assert checks_of(hidden) > MOST_CHECKS


def test_what_is_no_part_counts_nothing() -> None:
    assert checks_of(True) == checks_of({}) == 1
    assert checks_of({"const": {"allOf": [{}] * 100}, "enum": [[{}]], "default": {"a": {}}}) == 1
    assert checks_of({"$defs": {"a": {"allOf": [{}] * 100}}}) == 1
    assert checks_of({"$ref": "#/nowhere/at/all"}) == 2
    assert checks_of({"properties": {"a": {"minimum": 1}, "b": {"items": {}}}}) == 3


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}], "properties": {"a": {"$ref": "#"}}},
        {"oneOf": [{"properties": {"n": {"$ref": "#"}, "k": {"const": k}}} for k in range(9)]},
    ],
)
def test_way_back_counts_once(schema: Json) -> None:
    assert checks_of(schema) < 50
    assert faults_of(schema) == []


def test_large_schema_without_repetition_is_taken() -> None:
    address = {"type": "object", "properties": {f"a{n}": {"type": "string"} for n in range(100)}}
    person = {"properties": {f"p{n}": {"$ref": "#/$defs/address"} for n in range(100)}}
    schema = {
        "$defs": {"address": address, "person": person},
        "properties": {f"q{n}": {"$ref": "#/$defs/person"} for n in range(50)},
    }
    assert faults_of(schema) == []
