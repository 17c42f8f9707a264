"""Filters as a subscription has them: what each dialect wants, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.errors import Fault
from broker.filters.dialects import MOST_BYTES, MOST_FILTERS, MOST_NESTING, read, wants

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop/berlin",
    "type": "order.placed",
    "subject": "a/b",
    "priority": 5,
    "urgent": True,
}


def want(*filters: Any) -> bool:
    faults: list[Fault] = []
    kept = read(list(filters), faults)
    assert faults == []
    predicate = wants(kept)
    assert predicate is not None
    return predicate(json.dumps(EVENT).encode())


def faults_of(value: Any) -> dict[str, str]:
    faults: list[Fault] = []
    assert read(value, faults) == ()
    return {fault.field: fault.message for fault in faults}


PLACED = {"exact": {"type": "order.placed"}}
OTHER = {"exact": {"type": "order.shipped"}}


@pytest.mark.parametrize(
    ("filter_", "wanted"),
    [
        ({"exact": {"type": "order.placed"}}, True),
        ({"exact": {"type": "order"}}, False),
        ({"exact": {"type": "Order.placed"}}, False),
        ({"exact": {"type": "order.placed", "subject": "a/b"}}, True),
        ({"exact": {"type": "order.placed", "subject": "a"}}, False),
        ({"exact": {"nothing": "x"}}, False),
        ({"exact": {"priority": "5"}}, True),
        ({"exact": {"urgent": "true"}}, True),
        ({"exact": {"urgent": "True"}}, False),
        ({"prefix": {"type": "order."}}, True),
        ({"prefix": {"type": "placed"}}, False),
        ({"prefix": {"type": "order", "source": "/shop"}}, True),
        ({"prefix": {"type": "order", "nothing": "x"}}, False),
        ({"suffix": {"type": ".placed"}}, True),
        ({"suffix": {"type": "order."}}, False),
        ({"suffix": {"type": ".placed", "source": "paris"}}, False),
        ({"all": [PLACED, {"prefix": {"source": "/shop"}}]}, True),
        ({"all": [PLACED, OTHER]}, False),
        ({"any": [OTHER, PLACED]}, True),
        ({"any": [OTHER, {"exact": {"id": "2"}}]}, False),
        ({"not": OTHER}, True),
        ({"not": PLACED}, False),
        ({"not": {"exact": {"nothing": "x"}}}, True),
        ({"not": {"any": [{"not": PLACED}, OTHER]}}, True),
        ({"sql": "type LIKE 'order.%' AND priority > 3"}, True),
        ({"sql": "priority < 3"}, False),
        ({"sql": "nothing = 'x'"}, False),
        ({"sql": "NOT (nothing = 'x')"}, False),
        ({"sql": "urgent"}, True),
        ({"sql": "priority"}, False),
        ({"sql": "type"}, False),
        ({"not": {"sql": "1 / 0 = 1"}}, True),
    ],
)
def test_dialect_says_what_matches(filter_: dict[str, Any], wanted: bool) -> None:
    assert want(filter_) is wanted
    assert want(filter_, {"exact": {"id": "1"}}) is wanted
    assert want({"exact": {"id": "2"}}, filter_) is False


def test_no_filter_wants_everything_and_costs_nothing() -> None:
    assert wants(()) is None


def test_filters_are_kept_as_they_were_given() -> None:
    faults: list[Fault] = []
    assert read([PLACED, {"sql": "TRUE"}], faults) == (PLACED, {"sql": "TRUE"})
    assert read([], faults) == ()
    assert faults == []


@pytest.mark.parametrize(
    ("value", "field", "about"),
    [
        ("type = 'x'", "filters", "must be a list"),
        ({"exact": {"type": "x"}}, "filters", "must be a list"),
        (["x"], "filters[0]", "one dialect"),
        ([{}], "filters[0]", "one dialect"),
        ([{**PLACED, "sql": "TRUE"}], "filters[0]", "one dialect"),
        ([PLACED, {"regex": {"type": ".*"}}], "filters[1].regex", "exact, prefix"),
        ([{"exact": {}}], "filters[0].exact", "one or more"),
        ([{"prefix": "order"}], "filters[0].prefix", "one or more"),
        ([{"suffix": {"type": ""}}], "filters[0].suffix.type", "not empty"),
        ([{"exact": {"priority": 5}}], "filters[0].exact.priority", "string"),
        ([{"exact": {"Type": "x"}}], "filters[0].exact.Type", "lower-case"),
        ([{"exact": {"data": "x"}}], "filters[0].exact.data", "never data"),
        ([{"exact": {"a\n": "x"}}], "filters[0].exact.a\n", "lower-case"),
        ([{"all": []}], "filters[0].all", "one or more"),
        ([{"any": PLACED}], "filters[0].any", "one or more"),
        ([{"any": [PLACED, {"not": [OTHER]}]}], "filters[0].any[1].not", "one dialect"),
        ([{"not": {"all": [{"exact": 3}]}}], "filters[0].not.all[0].exact", "one or more"),
        ([{"sql": {"expression": "TRUE"}}], "filters[0].sql", "must be a string"),
        ([{"sql": ""}], "filters[0].sql", "line 1, column 1: it ends where a value is missing"),
        ([{"sql": "type ="}], "filters[0].sql", "line 1, column 7"),
        ([{"sql": "type =\n NOW()"}], "filters[0].sql", "line 2, column 2: there is no function"),
        ([{"sql": "LENGTH(type)"}], "filters[0].sql", "of type Integer"),
        ([{"sql": "'true'"}], "filters[0].sql", "of type String"),
    ],
)
def test_fault_names_its_field(value: Any, field: str, about: str) -> None:
    found = faults_of(value)
    assert list(found) == [field]
    assert about in found[field]


def test_all_faults_are_told_at_once() -> None:
    wrong = [{"sql": "1 +"}, PLACED, {"any": [{"exact": {"A": "x", "b": 3}}, {"like": 1}]}]
    assert list(faults_of(wrong)) == [
        "filters[0].sql",
        "filters[2].any[0].exact.A",
        "filters[2].any[0].exact.b",
        "filters[2].any[1].like",
    ]


def test_number_of_filters_is_limited() -> None:
    assert want(*[PLACED] * MOST_FILTERS)
    assert list(faults_of([PLACED] * (MOST_FILTERS + 5))) == [f"filters[{MOST_FILTERS}]"]
    nested = [{"any": [PLACED] * 60}, {"all": [PLACED] * 60}]
    assert list(faults_of(nested)) == ["filters[1].all[38]"]


def test_nesting_is_limited() -> None:
    def nested(levels: int) -> dict[str, Any]:
        return PLACED if levels == 1 else {"all": [nested(levels - 1)]}

    assert want(nested(MOST_NESTING))
    (field,) = faults_of([nested(MOST_NESTING + 1)])
    assert field == "filters[0]" + ".all[0]" * MOST_NESTING


def test_size_of_filters_is_limited() -> None:
    def sized(size: int) -> list[Any]:
        return [{"exact": {"type": "x" * (size - len('[{"exact":{"type":""}}]'))}}]

    assert not want(*sized(MOST_BYTES))
    assert list(faults_of(sized(MOST_BYTES + 1))) == ["filters"]
