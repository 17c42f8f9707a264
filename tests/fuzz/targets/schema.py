"""A topic's JSON Schema on the first line, and the data that it is to judge."""

from __future__ import annotations

import msgspec

from broker.cloudevents import read_parts
from broker.errors import Fault, InvalidRequest
from broker.schema import MAX_FAULTS, DataSchema, checked
from fuzz.events import NOW, TOPIC, check_refusal, new_id


def check(data: bytes) -> None:
    """Take a schema or name what is wrong with it, and judge data without failing."""
    written, _, content = data.partition(b"\n")
    try:
        value = msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    faults: list[Fault] = []
    schema = checked(value, faults)
    if schema is None:
        assert 1 <= len(faults) <= MAX_FAULTS
        assert all(each.field.startswith("schema") and each.message for each in faults)
        return
    assert not faults
    message = read_parts(TOPIC, {"datacontenttype": "application/json"}, content, new_id, NOW)
    compiled = DataSchema(schema)
    told = _judged(compiled, message)
    assert _judged(compiled, message) == told


def _judged(schema: DataSchema, message: object) -> object:
    try:
        schema.check([message], batch=False)  # type: ignore[list-item]
    except InvalidRequest as refusal:
        check_refusal(refusal)
        assert len(refusal.faults) <= MAX_FAULTS
        assert all(fault.field.split("/")[0] == "data" for fault in refusal.faults)
        return refusal.faults
    return None
