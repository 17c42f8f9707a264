"""The filters of a subscription, in JSON: all dialects, nested."""

from __future__ import annotations

import msgspec
from jsonschema_rs import validator_for

from broker.errors import Fault
from broker.filters.dialects import filter_schema, read, wants
from fuzz.samples import EVENTS

_described = validator_for(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "array",
        "items": {"$ref": "#/components/schemas/Filter"},
        "components": {"schemas": {"Filter": filter_schema()}},
    }
)


def check(data: bytes) -> None:
    """Read filters; those taken are as described, survive the store, and decide of any event."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    faults: list[Fault] = []
    filters = read(value, faults)
    if faults:
        assert filters == ()
        assert all(fault.field.startswith("filters") and fault.message for fault in faults)
        return
    assert _described.is_valid(value), "taken, but not as described"
    stored = msgspec.json.decode(msgspec.json.encode(filters))
    assert list(read(stored, faults)) == list(filters)
    assert not faults
    decide, again = wants(filters), wants(stored)
    for event in EVENTS:
        if decide is None or again is None:
            assert filters == ()
            continue
        found = decide(event)
        assert isinstance(found, bool)
        assert again(event) is found
