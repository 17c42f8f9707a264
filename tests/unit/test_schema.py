"""Which JSON Schemas a topic may have, and what data that breaks one is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from broker.errors import Fault, InvalidRequest
from broker.model import NewMessage
from broker.schema import MAX_DEPTH, MAX_FAULTS, DataSchema, checked
from unit.events import json_values

Json = Any


def event(data: bytes | None, media_type: str | None = None, id_: str = "1") -> NewMessage:
    attributes = {"id": id_} if media_type is None else {"id": id_, "datacontenttype": media_type}
    encoded = json.dumps(attributes, separators=(",", ":")).encode()
    return NewMessage(id_, "/s", None, encoded, data, b"f")


def refusal(
    schema: Json, *messages: NewMessage, batch: bool = False
) -> tuple[tuple[str, str], ...]:
    """Give the faults that messages are refused with, none where they are taken."""
    try:
        DataSchema(schema).check(messages, batch=batch)
    except InvalidRequest as refused:
        return tuple((fault.field, fault.message) for fault in refused.faults)
    return ()


def faults(schema: Json, value: Json) -> list[tuple[str, str]]:
    return list(refusal(schema, event(json.dumps(value).encode())))


def fields(schema: Json, value: Json) -> list[str]:
    return [field for field, _ in faults(schema, value)]


def faults_of_schema(schema: Json) -> list[Fault]:
    found: list[Fault] = []
    taken = checked(schema, found)
    assert (taken is None) == bool(found)
    return found


# -- what is told of data --------------------------------------------------------------------------

OWN = [
    ({"type": "string"}, 1, "must be of type string"),
    ({"type": ["string", "null"]}, 1, "must be of type string or null"),
    ({"enum": ["a", 1]}, "b", 'must be one of ["a",1]'),
    ({"const": None}, 0, "must be null"),
    ({"minimum": 1.5}, 1, "must be at least 1.5"),
    ({"maximum": 1}, 2, "must be at most 1"),
    ({"exclusiveMinimum": 1}, 1, "must be above 1"),
    ({"exclusiveMaximum": 1}, 1, "must be below 1"),
    ({"multipleOf": 2}, 3, "must be a multiple of 2"),
    ({"minLength": 2}, "é", "must have at least 2 characters"),
    ({"maxLength": 1}, "ab", "must have at most 1 characters"),
    ({"pattern": "^a"}, "b", 'must match the regular expression "^a"'),
    ({"minItems": 1}, [], "must have at least 1 items"),
    ({"maxItems": 1}, [1, 2], "must have at most 1 items"),
    ({"uniqueItems": True}, [1, 1], "must have no item twice"),
    ({"minProperties": 1}, {}, "must have at least 1 properties"),
    ({"maxProperties": 0}, {"a": 1}, "must have at most 0 properties"),
    ({"not": {"type": "string"}}, "a", "must not fit the schema in not"),
    ({"anyOf": [{"type": "string"}, False]}, 1, "must fit one of the 2 schemas in anyOf"),
    ({"oneOf": [True, True]}, 1, "must fit exactly one of the 2 schemas in oneOf; it fits 2"),
    ({"contains": {"const": 1}}, [], "must have at least 1 items that fit the schema in contains"),
    (
        {"contains": {"const": 1}, "maxContains": 1},
        [1, 1],
        "must have at most 1 items that fit the schema in contains",
    ),
    (False, 1, "is not allowed"),
    (
        {"properties": {"a": True}, "unevaluatedProperties": False},
        {"b": 1},
        "has properties that are not allowed here",
    ),
    ({"prefixItems": [True], "unevaluatedItems": False}, [1, 2], "has items that are not allowed"),
    ({"$dynamicRef": "#a", "$defs": {"a": {"$dynamicAnchor": "a", "type": "null"}}}, 1, "does not"),
    ({"$ref": "#a", "$defs": {"a": {"$anchor": "a", "type": "null"}}}, 1, "does not fit"),
]


@pytest.mark.parametrize(("schema", "value", "message"), OWN, ids=str)
def test_each_keyword_says_what_it_wants(schema: Json, value: Json, message: str) -> None:
    ((field, told),) = faults(schema, value)
    assert field == "data"
    assert told.startswith(message)
    ((field, told),) = faults({"properties": {"at": schema}}, {"at": value})
    assert field == "data/at"
    if "$" not in str(schema):
        assert told.startswith(message)


STRING = {"type": "string"}
PLACES = [
    (
        {"properties": {"a": {"items": {"properties": {"b": STRING}}}}},
        {"a": [{}, {"b": 1}]},
        "a/1/b",
    ),
    ({"items": STRING}, ["a", 1], "1"),
    ({"prefixItems": [True, STRING], "items": False}, [1, "a", 2], "2"),
    ({"prefixItems": [True, STRING]}, [1, 2], "1"),
    ({"required": ["a"]}, {}, "a"),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "b"),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}, "b"),
    ({"additionalProperties": False, "properties": {"a": True}}, {"a": 1, "b": 1}, "b"),
    ({"additionalProperties": STRING, "patternProperties": {"^x": {}}}, {"x1": 1, "y": 1}, "y"),
    ({"patternProperties": {"^x": STRING}}, {"x1": 1, "y": 1}, "x1"),
    ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "ab"),
    ({"allOf": [True, {"properties": {"a": STRING}}]}, {"a": 1}, "a"),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}, "b"),
    ({"if": {"required": ["a"]}, "else": {"required": ["b"]}}, {"c": 1}, "b"),
    ({"$ref": "#/$defs/x%20/y~1z", "$defs": {"x ": {"y/z": {"required": ["b"]}}}}, {}, "b"),
    ({"properties": {"a/b": {"properties": {"c~d": STRING}}}}, {"a/b": {"c~d": 1}}, "a~1b/c~0d"),
    (
        {"properties": {"next": {"$ref": "#"}, "v": STRING}},
        {"next": {"next": {"v": 1}}},
        "next/next/v",
    ),
]


@pytest.mark.parametrize(("schema", "value", "path"), PLACES, ids=str)
def test_fault_is_named_by_its_place(schema: Json, value: Json, path: str) -> None:
    assert fields(schema, value) == [f"data/{path}"]


def test_every_fault_is_told() -> None:
    schema = {
        "required": ["a", "b"],
        "properties": {"c": STRING, "d": {"type": "integer", "minimum": 3}},
    }
    assert fields(schema, {"c": 1, "d": 1.5}) == ["data/a", "data/b", "data/c", "data/d", "data/d"]


def test_fault_of_a_batch_has_its_position() -> None:
    batch = [event(b'"a"'), event(b"1"), event(None), event(b'"b"'), event(b"[]")]
    told = refusal({"type": "string", "maxLength": 5}, *batch, batch=True)
    assert [field for field, _ in told] == ["[1].data", "[2].data", "[4].data"]


def test_faults_have_an_end() -> None:
    many = {"items": {"required": ["a", "b"]}, "propertyNames": False}
    assert len(faults(many, [{}] * 50_000)) == MAX_FAULTS
    assert len(faults({"propertyNames": False}, {str(n): n for n in range(50_000)})) == MAX_FAULTS
    batch = [event(b"1", id_=str(n)) for n in range(1000)]
    assert len(refusal({"type": "string"}, *batch, batch=True)) == MAX_FAULTS


def test_long_name_or_rule_is_cut() -> None:
    ((field, _),) = faults({"additionalProperties": False}, {"a" * 100_000: 1})
    assert len(field) < 300
    ((_, message),) = faults({"enum": ["a" * 100_000]}, 1)
    assert len(message) < 300


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (None, None),
        (b"{", None),
        (b"\xff", "application/json"),
        (b'"\xff"', "application/json"),
        (b"NaN", None),
        (b"1 2", None),
        (b"[" * 100_000 + b"]" * 100_000, None),
        (b"1", "text/plain"),
    ],
)
def test_data_that_is_no_json_is_refused(data: bytes | None, media_type: str | None) -> None:
    ((field, _),) = refusal(True, event(data, media_type))
    assert field == "data"


def test_value_is_not_told() -> None:
    secret = "4111 1111 1111 1111"
    for schema, *_ in OWN:
        assert secret not in str(faults(schema, secret))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, False]},
        {"anyOf": [{"$ref": "#"}, False]},
        {"not": {"$ref": "#"}},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
    ids=str,
)
def test_schema_that_refers_to_itself_has_an_end(schema: Json) -> None:
    assert faults_of_schema(schema) == []
    assert len(faults(schema, 1)) <= 2


def test_schema_with_two_ways_to_itself_takes_no_longer_than_one() -> None:
    branches = [{"properties": {"n": {"$ref": "#"}, "k": {"const": k}}} for k in (1, 2)]
    value: Json = "x"
    for _ in range(200):
        value = {"n": value}
    assert fields({"oneOf": branches}, value) == ["data"]


def test_pattern_takes_linear_time() -> None:
    assert fields({"pattern": "^(a+)+$"}, "a" * 500_000 + "b") == ["data"]
    value = {"a" * 500_000 + "b": 1}
    assert len(fields({"patternProperties": {"^(a+)+$": False}}, value)) == 0


def test_deep_data_is_explained_and_deeper_data_refused() -> None:
    schema = {"type": ["array", "object"], "items": {"$ref": "#"}}
    deepest = [{"a": [1]}] * 500
    ((field, _),) = faults(schema, [*deepest, 1])
    assert field == "data/500"
    value: Json = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    ((field, message),) = faults(schema, value)
    assert field.startswith("data/0/0/0")
    assert "deep" not in message
    ((field, message),) = faults(schema, [value])
    assert field == "data"
    assert "nested too deeply" in message


# A schema within one with an $id of its own counts its references from there.
def test_inner_document_has_references_of_its_own() -> None:
    inner = {"$id": "inner", "$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}
    schema = {
        "$id": "https://example.com/outer",
        "properties": {"x": inner},
        "$defs": {"a": {"minimum": 5}},
    }
    assert faults_of_schema(schema) == []
    assert faults(schema, {"x": 1}) == [("data/x", "does not fit the topic's schema")]
    assert faults(schema, {"x": None}) == []


# -- any schema, any value -------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "a/b", "~"])
small = st.integers(0, 3)
leaves = st.one_of(
    st.booleans(),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "object", "array", ["null", "number"]]),
            "minimum": small,
            "maxLength": small,
            "pattern": st.sampled_from(["^a", "b$", "."]),
            "minItems": small,
            "uniqueItems": st.booleans(),
            "required": st.lists(names, unique=True, max_size=2),
            "const": json_values,
            "$ref": st.sampled_from(["#", "#/$defs/d", "#/$defs/e"]),
        },
    ),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(names, inner, max_size=3),
            "patternProperties": st.dictionaries(st.sampled_from(["a", "^b"]), inner, max_size=2),
            "additionalProperties": inner,
            "unevaluatedProperties": inner,
            "propertyNames": inner,
            "dependentSchemas": st.dictionaries(names, inner, max_size=2),
            "dependentRequired": st.dictionaries(
                names, st.lists(names, unique=True, max_size=2), max_size=2
            ),
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "items": inner,
            "contains": inner,
            "minContains": small,
            "maxContains": small,
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
        },
    ),
    max_leaves=8,
)
values = st.recursive(
    st.none() | st.booleans() | small | st.sampled_from(["", "a", "ab", "abc"]) | st.floats(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(schemas, schemas, schemas, values)
def test_whatever_does_not_fit_is_told_where(root: Json, d: Json, e: Json, value: Json) -> None:
    schema = {**root, "$defs": {"d": d, "e": e}} if isinstance(root, dict) else root
    assert faults_of_schema(schema) == []
    told = faults(schema, value)
    assert bool(told) != Draft202012Validator(schema).is_valid(value)
    assert len(told) <= MAX_FAULTS
    for field, message in told:
        assert message
        root_name, *steps = field.split("/")
        assert root_name == "data"
        at = value
        for number, step in enumerate(steps, 1):
            name = step.replace("~1", "/").replace("~0", "~")
            missing = isinstance(at, dict) and name not in at
            if missing:
                assert number == len(steps)
                assert message.startswith("is required")
                break
            at = at[int(name)] if isinstance(at, list) else at[name]


# -- which schemas are taken -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (5, "schema"),
        ("x", "schema"),
        ([], "schema"),
        ({"type": "nonsense"}, "schema/type"),
        ({"properties": {"a": {"type": 5}}}, "schema/properties/a/type"),
        ({"properties": {"a/b": {"minimum": "x"}}}, "schema/properties/a~1b/minimum"),
        ({"properties": []}, "schema/properties"),
        ({"items": [{}]}, "schema/items"),
        ({"items": {"pattern": "("}}, "schema/items/pattern"),
        ({"patternProperties": {"(": {}}}, "schema/patternProperties/("),
        ({"pattern": "(?=a)"}, "schema/pattern"),
        ({"pattern": r"(a)\1"}, "schema/pattern"),
        ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "schema/pattern"),
        ({"properties": {"a": {"$ref": "#/$defs/no"}}}, "schema/properties/a/$ref"),
        ({"allOf": [{"$ref": "https://x.example/a.json#/b"}]}, "schema/allOf/0/$ref"),
        ({"$ref": "file:///etc/passwd"}, "schema/$ref"),
        ({"$ref": "other.json"}, "schema/$ref"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "schema/$schema"),
        ({"$schema": 5}, "schema/$schema"),
        ({"$ref": 5}, "schema/$ref"),
        ({"$id": 5}, "schema/$id"),
    ],
    ids=str,
)
def test_wrong_schema_is_refused_by_the_place_of_its_fault(schema: Json, field: str) -> None:
    found = faults_of_schema(schema)
    assert [fault.field for fault in found] == [field]
    assert 5 < len(found[0].message) < 400


def test_every_fault_of_a_schema_is_told() -> None:
    schema = {"properties": {"a": {"type": "x"}, "b": {"minimum": "x"}}, "required": "a"}
    assert sorted(fault.field for fault in faults_of_schema(schema)) == [
        "schema/properties/a/type",
        "schema/properties/b/minimum",
        "schema/required",
    ]


@pytest.mark.parametrize("word", ["not", "items", "x"])
def test_schema_nested_too_deeply_is_refused_or_taken(word: str) -> None:
    schema: Json = {"type": "string"}
    for _ in range(3000):
        schema = {word: schema}
    assert [fault.field for fault in faults_of_schema(schema)] in ([], ["schema"])


@given(json_values)
def test_any_value_is_a_schema_or_refused(value: Json) -> None:
    for fault in faults_of_schema(value):
        assert fault.field.split("/")[0] == "schema"


@pytest.mark.parametrize(
    "schema",
    [
        True,
        False,
        {},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema#"},
        {
            "$id": "https://example.com/order",
            "$ref": "https://example.com/order#/$defs/a",
            "$defs": {"a": {}},
        },
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"format": "email", "unheard-of": 5, "title": "x", "default": {"type": 5}},
        {"enum": [{"$ref": "#/no"}], "const": {"type": "nonsense"}},
        {"properties": {"$ref": {"type": "string"}, "type": {"$ref": "#/properties/$ref"}}},
    ],
    ids=str,
)
def test_right_schema_is_taken(schema: Json) -> None:
    assert faults_of_schema(schema) == []
