"""What the readers of events take, and what the JSON Schema of events says, are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema_rs import Draft202012Validator

from broker.cloudevents import read_structured, structured
from broker.errors import BrokerError
from broker.event_schema import event_schema, header_schemas, stored_event_schema
from unit.events import Json, events, spoiled_events

PUBLISHED = Draft202012Validator(event_schema(), validate_formats=True)
STORED = Draft202012Validator(stored_event_schema(), validate_formats=True)
MINIMAL = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def taken(event: Json) -> bool:
    """Say whether a reader takes an event."""
    try:
        read_structured(json.dumps(event).encode(), None)
    except BrokerError:
        return False
    return True


@given(events() | spoiled_events())
@settings(max_examples=500)
def test_event_is_taken_if_the_schema_says_so(event: Json) -> None:
    assert taken(event) is PUBLISHED.is_valid(event)


@given(events())
def test_event_is_shown_as_the_schema_says(event: Json) -> None:
    message = read_structured(json.dumps(event).encode(), None)
    for sequence in (7, None):
        shown = json.loads(structured(message.attributes, message.data, sequence))
        STORED.validate(shown)


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, True),
        ({"subject": None}, True),
        ({"subject": ""}, False),
        ({"tracestate": ""}, True),
        ({"tracestate": False}, False),
        ({"other": 1.0}, True),
        ({"other": ""}, True),
        ({"other": "\x07"}, False),
        ({"other": "\u0085"}, False),
        ({"other": 2**31}, False),
        ({"other": 1.5}, False),
        ({"other": [1]}, False),
        ({"Other": "x"}, False),
        ({"Other": None}, False),
        ({":": None}, False),
        ({"type": "\ufffe"}, False),
        ({"source": "a b"}, False),
        ({"source": "\x85"}, False),
        ({"datacontenttype": "text/ü"}, False),
        ({"specversion": "0.3"}, False),
        ({"data": {"a": [1]}}, True),
        ({"data_base64": "AA=="}, True),
        ({"data_base64": "AA="}, False),
        ({"data": 1, "data_base64": "AA=="}, False),
        ({"time": "2026-02-29T00:00:00Z"}, False),
    ],
)
def test_reader_and_schema_agree(changes: dict[str, Any], right: bool) -> None:
    event = {**MINIMAL, **changes}
    assert (taken(event), PUBLISHED.is_valid(event)) == (right, right)


def test_headers_are_the_attributes_of_the_format_and_those_acted_on() -> None:
    assert header_schemas().keys() == {
        *("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time"),
        *("ce-dataschema", "ce-partitionkey", "ce-deliverat", "ce-expirytime"),
        *("ce-traceparent", "ce-tracestate"),
    }
