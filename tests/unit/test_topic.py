"""What a PUT makes of a topic."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import InvalidRequest
from broker.topic import Retention, Topic, updated

CHANGED = Topic("orders", Retention(60, 1000, 10), dedup_window_s=30, created_at=5.0)

amounts = st.integers(1, 2**53 - 1)
seconds = amounts | st.floats(0, 2**53, exclude_min=True, exclude_max=True)
fields = {"max_age_s": seconds, "max_bytes": amounts, "max_messages": amounts}
retentions = st.fixed_dictionaries({}, optional={k: v | st.none() for k, v in fields.items()})
bodies = st.fixed_dictionaries(
    {}, optional={"retention": retentions | st.none(), "dedup_window_s": seconds | st.none()}
)


def faults_of(body: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        updated(CHANGED, body)
    assert all(fault.message for fault in refused.value.faults)
    return [fault.field for fault in refused.value.faults]


def test_empty_body_changes_nothing() -> None:
    assert updated(CHANGED, {}) == CHANGED


@given(bodies)
def test_each_field_given_takes_its_value_null_its_default_and_others_stay(
    body: dict[str, Any],
) -> None:
    after = updated(CHANGED, body)
    window = body.get("dedup_window_s", 30)
    assert after.dedup_window_s == (86400 if window is None else window)
    retention = body.get("retention", {})
    for name in fields:
        if retention is None:
            expected = getattr(Retention(), name)
        else:
            given_value = retention.get(name, getattr(CHANGED.retention, name))
            expected = getattr(Retention(), name) if given_value is None else given_value
        assert getattr(after.retention, name) == expected
    assert (after.name, after.created_at) == ("orders", 5.0)


@given(bodies)
def test_second_time_changes_nothing_more(body: dict[str, Any]) -> None:
    once = updated(CHANGED, body)
    assert updated(once, body) == once


@pytest.mark.parametrize("value", [0, -1, True, "60", [], {}, 2**53, 1e300])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"dedup_window_s": ...}, "dedup_window_s"),
        ({"retention": {"max_age_s": ...}}, "retention.max_age_s"),
        ({"retention": {"max_bytes": ...}}, "retention.max_bytes"),
        ({"retention": {"max_messages": ...}}, "retention.max_messages"),
    ],
)
def test_wrong_number_names_its_field(body: dict[str, Any], field: str, value: object) -> None:
    filled = {
        outer: dict.fromkeys(inner, value) if isinstance(inner, dict) else value
        for outer, inner in body.items()
    }
    assert faults_of(filled) == [field]


def test_fraction_of_a_byte_is_refused() -> None:
    assert faults_of({"retention": {"max_bytes": 1.5}}) == ["retention.max_bytes"]


@pytest.mark.parametrize("value", [7, "forever", [], True])
def test_retention_that_is_no_object_is_refused(value: object) -> None:
    assert faults_of({"retention": value}) == ["retention"]


def test_all_faults_are_told_at_once() -> None:
    body = {
        "color": "red",
        "dedup_window_s": 0,
        "retention": {"max_age_s": -1, "max_bytes": "big", "forever": True},
    }
    assert faults_of(body) == [
        "color",
        "dedup_window_s",
        "retention.max_age_s",
        "retention.max_bytes",
        "retention.forever",
    ]


@given(bodies)
def test_stored_document_brings_it_back(body: dict[str, Any]) -> None:
    topic = updated(CHANGED, body)
    assert Topic.from_document(json.loads(json.dumps(topic.to_document()))) == topic


def test_fields_of_a_newer_broker_are_ignored() -> None:
    document = CHANGED.to_document()
    document["color"] = "red"
    document["retention"]["shape"] = "round"
    assert Topic.from_document(document) == CHANGED


def test_fields_of_an_older_broker_have_their_defaults() -> None:
    assert Topic.from_document({"name": "orders"}) == Topic("orders")
