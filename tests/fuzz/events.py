"""What must hold of every event that the broker takes, whatever it was read from."""

from __future__ import annotations

import json
from typing import Any

from broker.cloudevents import (
    MAX_ATTRIBUTES,
    attributes_of,
    binary_headers,
    encode_header_value,
    is_json,
    read_batch,
    read_binary,
    read_structured,
    rfc3339,
    structured,
)
from broker.errors import BrokerError
from broker.model import NewMessage
from broker_client import Event, MalformedEvent

TOPIC = "order"
SEQUENCE = 7
NOW = 1_800_000_000.0
JSON_SPACE = b" \t\r\n"
REFUSALS = {400, 413, 415, 422}


def new_id() -> str:
    """Give an id to an event that has none."""
    return "generated"


def check_refusal(refusal: BrokerError) -> None:
    """Insist on a refusal of the request, which says what is wrong and where."""
    assert refusal.status in REFUSALS, refusal
    assert refusal.detail
    if refusal.status == 422:
        assert refusal.faults, "nothing is named"
    assert all(fault.message for fault in refusal.faults), refusal.faults


def check_taken(message: NewMessage) -> None:
    """Insist on a message that comes out again as it went in, whoever reads it in whatever mode."""
    attributes = attributes_of(message.attributes)
    assert (attributes["id"], attributes["source"]) == (message.id, message.source)
    assert attributes.get("partitionkey") == message.key
    if len(attributes) < MAX_ATTRIBUTES:  # with `sequence` it has one more
        _check_structured(message, attributes)
        _check_binary(message, attributes)
    _check_client(message, attributes)


def _check_structured(message: NewMessage, attributes: dict[str, Any]) -> None:
    document = structured(message.attributes, message.data, SEQUENCE)
    again = read_structured(document, None)
    assert attributes_of(again.attributes) == {**attributes, "sequence": SEQUENCE}
    assert _same(attributes, message.data, again.data)
    (alone,) = read_batch(b"[%s]" % document)
    assert alone == again


def _check_binary(message: NewMessage, attributes: dict[str, Any]) -> None:
    lines = binary_headers(message.attributes, message.data, SEQUENCE)
    headers = [(name.encode(), value.encode("latin-1")) for name, value in map(_split, lines)]
    again = read_binary(TOPIC, headers, message.data or b"", None, new_id, NOW)
    found = attributes_of(again.attributes)
    content_type = found.pop("datacontenttype")
    if "datacontenttype" in attributes:
        assert content_type == (attributes["datacontenttype"].strip() or "application/json")
    expected = {
        name: value if isinstance(value, str) else encode_header_value(value)
        for name, value in attributes.items()
        if name != "datacontenttype"
    }
    expected.setdefault("time", rfc3339(NOW))
    assert found == {**expected, "sequence": str(SEQUENCE)}
    assert (again.data or b"") == (message.data or b"")


def _check_client(message: NewMessage, attributes: dict[str, Any]) -> None:
    """Have the client library read what an endpoint gets."""
    headers = dict(map(_split, binary_headers(message.attributes, message.data, SEQUENCE)))
    document = structured(message.attributes, message.data, SEQUENCE)
    read = [
        lambda: Event.from_http(headers, message.data or b""),
        lambda: Event.from_http({"content-type": "application/cloudevents+json"}, document),
        lambda: Event.batch_from_http(b"[%s]" % document)[0],
    ]
    for one in read:
        try:
            event = one()
        except MalformedEvent:
            assert not _python_reads(message.data), "the client library refuses what was taken"
            continue
        assert (event.id, event.source) == (message.id, message.source)
        assert (event.type, event.subject) == (attributes["type"], attributes.get("subject"))
        assert event.partitionkey == message.key
        _check_published_again(event)


def _check_published_again(event: Event) -> None:
    try:
        body = event.to_json().encode()
    except (TypeError, ValueError):  # lone surrogates, and numbers beyond a float's
        return
    if len(event.extensions) > MAX_ATTRIBUTES - 10:
        return
    again = read_structured(body, None)
    assert (again.id, again.source, again.key) == (event.id, event.source, event.partitionkey)


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip(" ")


def _same(attributes: dict[str, Any], data: bytes | None, again: bytes | None) -> bool:
    if data is not None and again is not None and is_json(attributes.get("datacontenttype")):
        return data.strip(JSON_SPACE) == again.strip(JSON_SPACE)
    return data == again


def _python_reads(data: bytes | None) -> bool:
    """Say whether Python's own reader takes the data for JSON: it has bounds where JSON has none.

    No integer may have more digits than a text may be made of, and no array may be too deep.
    """
    try:
        json.loads(data or b"null")
    except (ValueError, RecursionError):
        return False
    return True
