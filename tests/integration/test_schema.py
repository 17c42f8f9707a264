"""A topic's JSON Schema: what breaks it is refused with the path of the fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.moments import ahead
from support.problem import Problem, read_problem

ORDER: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["order_id", "items"],
    "properties": {
        "order_id": {"type": "string", "minLength": 1},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1},
    },
    "additionalProperties": False,
    "$defs": {
        "item": {
            "type": "object",
            "required": ["sku", "qty"],
            "properties": {"sku": {"type": "string"}, "qty": {"type": "integer", "minimum": 1}},
        }
    },
}
GOOD = {"order_id": "o-1", "items": [{"sku": "a", "qty": 1}]}


def put_schema(api: Api, topic: str, schema: Any = ORDER) -> None:
    """Give a topic a schema."""
    good(api.put_topic(topic, schema=schema))


def refused(api: Api, topic: str, data: Any) -> Problem:
    """Publish data that must be refused, and give the refusal."""
    problem = read_problem(api.publish(topic, data), 422)
    assert list(api.all_messages(topic)) == []
    return problem


def test_schema_is_shown_kept_and_removed(api: Api, topic: str) -> None:
    assert good(api.put_topic(topic))["schema"] is None

    put_schema(api, topic)
    assert good(api.get_topic(topic))["schema"] == ORDER
    good(api.put_topic(topic, dedup_window_s=60))
    assert good(api.get_topic(topic))["schema"] == ORDER

    good(api.put_topic(topic, schema=None))
    assert good(api.get_topic(topic))["schema"] is None
    api.ok_publish(topic, "anything")


def test_data_that_keeps_the_schema_is_stored(api: Api, topic: str) -> None:
    put_schema(api, topic)

    api.ok_publish(topic, GOOD)
    good(api.publish_event(topic, event(id="m", data=GOOD)))
    good(api.publish_batch(topic, [event(id=f"b{n}", data=GOOD) for n in range(3)]))

    assert len(list(api.all_messages(topic))) == 5


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({**GOOD, "order_id": 5}, "order_id"),
        ({**GOOD, "order_id": ""}, "order_id"),
        ({**GOOD, "items": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 0}]}, "qty"),
        ({**GOOD, "items": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 0}]}, "1"),
        ({**GOOD, "items": []}, "items"),
    ],
)
def test_refusal_names_the_path_of_the_fault(api: Api, topic: str, data: Any, named: str) -> None:
    put_schema(api, topic)

    problem = refused(api, topic, data)

    assert problem.names(named), problem.errors
    assert problem.names("data"), problem.errors


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"order_id": "o"}, "items"),
        ({**GOOD, "colour": 1}, "colour"),
        ([], "object"),
        (5, "object"),
    ],
)
def test_refusal_tells_what_is_missing_or_too_much(
    api: Api, topic: str, data: Any, word: str
) -> None:
    put_schema(api, topic)

    assert word in refused(api, topic, data).text


def test_all_faults_are_told_at_once(api: Api, topic: str) -> None:
    put_schema(api, topic)

    problem = refused(api, topic, {"order_id": 5, "items": [{"sku": 1, "qty": "x"}]})

    assert all(problem.names(field) for field in ("order_id", "sku", "qty")), problem.errors


def test_thousands_of_faults_make_no_endless_answer(api: Api, topic: str) -> None:
    put_schema(api, topic)

    answer = api.publish(topic, {"order_id": "o", "items": [{}] * 20_000})

    read_problem(answer, 422)
    assert len(answer.content) < 100_000


def test_one_fault_refuses_the_whole_batch_and_names_its_position(api: Api, topic: str) -> None:
    put_schema(api, topic)
    events = [event(id=str(n), data=GOOD if n != 2 else {**GOOD, "order_id": 5}) for n in range(4)]

    problem = read_problem(api.publish_batch(topic, events), 422)

    assert problem.names("2"), problem.errors
    assert problem.names("order_id"), problem.errors
    assert list(api.all_messages(topic)) == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b""),
        ("application/json", b"\xff"),
        ("text/plain", json.dumps(GOOD).encode()),
        ("application/octet-stream", json.dumps(GOOD).encode()),
    ],
)
def test_data_that_is_no_json_is_refused(
    api: Api, topic: str, content_type: str, body: bytes
) -> None:
    put_schema(api, topic)

    answer = api.post(topic, body, {"content-type": content_type})

    assert read_problem(answer, 400, 422).names("data")
    assert list(api.all_messages(topic)) == []


def test_event_without_data_is_refused(api: Api, topic: str) -> None:
    put_schema(api, topic)

    assert read_problem(api.publish_event(topic, event(id="m")), 422).names("data")
    assert list(api.all_messages(topic)) == []


@pytest.mark.parametrize("type", ["application/vnd.shop+json", "application/json; charset=utf-8"])
def test_every_json_type_is_checked(api: Api, topic: str, type: str) -> None:
    put_schema(api, topic)

    read_problem(api.post(topic, b'{"order_id": 5}', {"content-type": type}), 422)
    good(api.post(topic, json.dumps(GOOD).encode(), {"content-type": type}))


def test_delayed_message_is_checked_when_it_is_published(api: Api, topic: str) -> None:
    put_schema(api, topic)

    answer = api.publish_event(topic, event(id="m", data={}, deliverat=ahead(3600)))

    read_problem(answer, 422)
    assert api.scheduled(topic) == []


def test_new_schema_counts_for_new_messages_only(api: Api, topic: str) -> None:
    api.ok_publish(topic, "before", id="m")

    put_schema(api, topic)

    assert [message["data"] for message in api.all_messages(topic)] == ["before"]
    read_problem(api.publish(topic, "after"), 422)


@pytest.mark.parametrize(
    "schema",
    [
        5,
        "x",
        [],
        {"type": "nonsense"},
        {"type": 5},
        {"minimum": "x"},
        {"properties": []},
        {"pattern": "("},
        {"required": "a"},
        {"$ref": "#/$defs/absent"},
        {"$ref": "https://schemas.example/order.json"},
        {"$ref": "file:///etc/passwd"},
        {"$schema": "https://json-schema.org/draft/unheard-of"},
    ],
    ids=str,
)
def test_wrong_schema_is_refused_and_changes_nothing(api: Api, topic: str, schema: Any) -> None:
    problem = read_problem(api.put_topic(topic, schema=schema), 422)

    assert problem.names("schema"), problem.fields
    assert api.get_topic(topic).status_code == 404


@pytest.mark.parametrize(
    ("schema", "kept", "broken"),
    [
        (True, 1, None),
        (False, None, 1),
        ({}, {"a": 1}, None),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
        ({"oneOf": [{"type": "string"}, {"minimum": 5}]}, 7, 3),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 2}, {"a": 1}),
        ({"unevaluatedProperties": False, "properties": {"a": {}}}, {"a": 1}, {"b": 1}),
        ({"if": {"type": "string"}, "then": {"maxLength": 2}}, "ab", "abc"),
        ({"const": None}, None, 0),
        ({"type": "integer"}, 1.0, 1.5),
        ({"enum": [1, "a"]}, "a", "b"),
        ({"type": "object", "properties": {"next": {"$ref": "#"}}}, {"next": {}}, {"next": 1}),
        ({"uniqueItems": True}, [1, 2], [1, 1.0]),
        ({"multipleOf": 0.01}, 4.35, 4.355),
    ],
    ids=str,
)
def test_words_of_draft_2020_12_are_known(
    api: Api, topic: str, schema: Any, kept: Any, broken: Any
) -> None:
    put_schema(api, topic, schema)

    if schema is not False:
        api.ok_publish(topic, kept)
    if schema not in (True, {}):
        read_problem(api.publish(topic, broken), 422)


def test_nesting_deeper_than_the_stack_is_no_server_error(api: Api, topic: str) -> None:
    put_schema(api, topic, {"properties": {"next": {"$ref": "#"}}})
    body = b'{"next":' * 20_000 + b"{}" + b"}" * 20_000

    answer = api.post(topic, body, {"content-type": "application/json"})

    assert answer.status_code < 500
    assert api.http.get("/readyz").status_code == 200


def test_schema_survives_a_kill(restartable: BrokerProcess, topic: str) -> None:
    put_schema(restartable.api, topic)

    restartable.kill()
    restartable.start()

    assert good(restartable.api.get_topic(topic))["schema"] == ORDER
    read_problem(restartable.api.publish(topic, {}), 422)
    restartable.api.ok_publish(topic, GOOD)
