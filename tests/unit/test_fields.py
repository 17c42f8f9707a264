"""What a field takes, and what its JSON Schema says it takes, are the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from broker import api_keys, deliveries, subscription, topic
from broker.errors import Fault
from broker.fields import Body, Field, Refused, ecma, flag, integer, integers, nested, seconds
from broker.filters.dialects import filter_schema

BODIES = {
    body.name: body
    for body in (
        *(topic.FIELDS, subscription.FIELDS, subscription.ROTATION),
        *(deliveries.SEEK, deliveries.REPLAY, deliveries.VERDICT, api_keys.FIELDS),
    )
}
FIELDS = {
    f"{body.name}.{name}": each for body in BODIES.values() for name, each in body.fields.items()
}
# What no pattern says: that a URL has a host and a port below 65536, that a
# schema is one, how deep filters are nested, and what is SQL.
LOOSER = {
    *("SubscriptionFields.endpoint", "SubscriptionFields.filters", "TopicFields.schema"),
}

scalars = st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False)
some_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def fits(schema: Any, value: object) -> bool:
    components = {"schemas": {"Filter": filter_schema()}}
    return Draft202012Validator(
        {**schema, "components": components}, validate_formats=True
    ).is_valid(value)


def takes(field: Field, value: object) -> bool:
    try:
        field.check(value)
    except ValueError:
        return False
    return True


names = st.sampled_from(["type", "subject", "data", "Type"])
pairs = st.dictionaries(names, st.text(max_size=2), max_size=2)
moments = st.sampled_from(
    [
        *("2026-01-31T12:00:00Z", "2026-02-28t12:00:00.5z", "0001-01-01T00:00:00+23:59"),
        *("1990-12-31T23:59:60Z", "1990-12-31T15:59:60-08:00", "9999-12-31T23:59:59-23:59"),
        *("0000-01-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-01-31T12:00:60Z"),
        *("2026-01-31T12:00:00", "2026-01-31", "2026-01-31T24:00:00Z", "2026-1-31T12:00:00Z"),
        *("2026-01-31T12:00:00Z\n", "2026-01-31T12:00:00+24:00", "2026-01-31 12:00:00Z"),
    ]
)
dialects: dict[str, Any] = dict.fromkeys(("exact", "prefix", "suffix"), pairs)
dialects["sql"] = st.sampled_from(["TRUE", "1", "EXISTS a", "type = 'a'", "", "("])
plain = st.one_of(*(st.fixed_dictionaries({name: each}) for name, each in dialects.items()))
filters = st.recursive(
    plain,
    lambda inner: (
        st.fixed_dictionaries({"not": inner})
        | st.fixed_dictionaries({"any": st.lists(inner, max_size=2)})
        | st.fixed_dictionaries({"all": st.lists(inner, max_size=2)})
    ),
    max_leaves=4,
)


def fitting(schema: Any) -> st.SearchStrategy[Any]:
    """Give values that are likely to fit a schema."""
    if "$ref" in schema:
        return filters
    if "anyOf" in schema:
        return st.one_of(*map(fitting, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of(*(_fitting_kind(kind, schema) for kind in kinds))


def _fitting_kind(kind: str, schema: Any) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("format") == "date-time":
        return moments
    if kind == "string":
        return st.from_regex(schema["pattern"], fullmatch=True)
    if kind == "array":
        items = fitting(schema["items"]) if "items" in schema else some_json
        return st.lists(items, max_size=3)
    if kind == "object" and "propertyNames" in schema:
        names = st.from_regex(schema["propertyNames"]["pattern"], fullmatch=True)
        return st.dictionaries(names, fitting(schema["additionalProperties"]), max_size=3)
    if kind == "object":
        properties = {n: fitting(each) for n, each in schema.get("properties", {}).items()}
        return st.fixed_dictionaries({}, optional=properties)
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "integer": st.integers(low, high),
        "number": st.floats(low, high, allow_nan=False) | st.integers(low and int(low) + 1, high),
    }[kind]


def near(schema: Any) -> list[Any]:
    """Give the limits that a schema names, and what is just outside."""
    limits = [schema[name] for name in ("minimum", "maximum") if name in schema]
    found = [limit + step for limit in limits for step in (-1, 0, 1)]
    for inner in schema.get("properties", {}).values():
        found += near(inner)
    return found


@pytest.mark.parametrize("name", FIELDS)
@given(data=st.data())
def test_field_takes_what_its_schema_says(name: str, data: st.DataObject) -> None:
    field = FIELDS[name]
    likely = [fitting(field.schema), *map(st.just, near(field.schema))]
    value = data.draw(st.one_of(*likely) | some_json)

    if takes(field, value):
        assert fits(field.schema, value)
    elif name not in LOOSER:
        assert not fits(field.schema, value)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@given(data=st.data())
def test_body_takes_what_its_schema_says(body: Body, data: st.DataObject) -> None:
    names = st.sampled_from([*body.fields, "colour"])
    value = data.draw(st.dictionaries(names, scalars) | fitting(body.schema()))

    fit = fits(body.schema(), value)

    if body is deliveries.REPLAY:
        assert fit == _is_replay(value)
    elif not body.read(value)[1]:
        assert fit


def _is_replay(value: Any) -> bool:
    try:
        deliveries._chosen(value)
    except deliveries.InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_field_is_described(body: Body) -> None:
    assert all(each.schema["description"] for each in body.fields.values())


@pytest.mark.parametrize("name", FIELDS)
def test_default_is_among_what_its_field_takes(name: str) -> None:
    schema = FIELDS[name].schema
    default = schema.get("default")
    assert default is None or fits(schema, default)


def test_faults_within_a_field_begin_with_it() -> None:
    body = Body(
        "Box",
        {
            "inner": nested(Body("Inner", {"size": integer(1, 2), "open": flag()}, ("open",))),
            "sizes": integers(1, 9, "must be sizes", most=3),
            "age_s": seconds(0, 1),
        },
        required=("age_s",),
    )

    values, faults = body.read({"inner": {"size": 3}, "sizes": [1, 0, "x"], "colour": 1})

    assert values == {}
    assert [fault.field for fault in faults] == [
        *("inner.size", "inner.open", "sizes[1]", "sizes[2]", "colour", "age_s")
    ]


def test_null_stands_for_an_absent_field() -> None:
    body = Body("Box", {"open": flag(), "size": integer(1, 2)}, required=("size",))
    assert body.read({"open": None, "size": 1}) == ({"open": None, "size": 1}, [])
    assert [fault.message for fault in body.read({"size": None})[1]] == ["is required"]


def test_pattern_of_a_whole_text_is_written_for_json_schema() -> None:
    assert ecma(r"\A[a-z]+\Z") == "^[a-z]+$"


def test_refused_tells_its_faults() -> None:
    assert str(Refused([Fault("a", "too big"), Fault("b", "too small")])) == "too big; too small"
