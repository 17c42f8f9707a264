"""JSON Schema of events: what may be published, and what is shown of what was.

Made from the type that reads them, with what that type leaves to the careful reader.
"""

from typing import Any

import msgspec

from broker.cloudevents import (
    ATTRIBUTE_NAME,
    FORBIDDEN_CHARACTERS,
    MAX_ATTRIBUTES,
    MAX_BATCH_EVENTS,
    URI_CHARACTERS,
    URIS,
    Event,
)
from broker.fields import moment

_DESCRIPTIONS = {
    "specversion": "Of CloudEvents",
    "id": "With `source` it is the event's identity, by which a repeat is recognised",
    "source": "Where it happened: a URI reference",
    "type": "What happened",
    "subject": "To what, within the source",
    "time": "When it happened",
    "datacontenttype": "The media type of the data; JSON where there is none",
    "dataschema": "Where the data's schema is: a URI",
    "partitionkey": "Messages with the same key keep their order",
    "deliverat": "It joins the log and is delivered then, not before",
    "expirytime": "It is not delivered after that",
    "traceparent": "Kept as it is, for tracing",
    "tracestate": "Kept as it is, for tracing",
    "data": "The event's data: any JSON",
}
_IN_HEADERS = tuple(name for name in _DESCRIPTIONS if name not in {"data", "datacontenttype"})
_TEXT = f"^[^{FORBIDDEN_CHARACTERS}]*$"
_URI = f"^[^{URI_CHARACTERS}{FORBIDDEN_CHARACTERS}]+$"
_MEDIA_TYPE = "^[ -~]+$"
_IN_A_HEADER = '^(?!""$)([!-~]([ -~]*[!-~])?)?$'
_TIMES = frozenset({"time", "deliverat", "expirytime"})
# CloudEvents 1.0.2, section "Type System": an extension is a string, a boolean or an integer.
_EXTENSION = {
    "anyOf": [
        {"type": "string", "pattern": _TEXT},
        {"type": ["boolean", "null"]},
        {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    ]
}


def event_schema() -> dict[str, Any]:
    """Return the schema of an event in JSON that may be published."""
    return {
        "description": "An event in the JSON format of CloudEvents 1.0, with up to "
        f"{MAX_ATTRIBUTES} attributes, extensions among them. A null stands for an absent one.",
        "type": "object",
        "properties": {**_attributes(), **_data()},
        "required": ["specversion", "id", "source", "type"],
        "patternProperties": {f"^(?!data$){ATTRIBUTE_NAME}$": _EXTENSION},
        "additionalProperties": False,
        "not": {"required": ["data", "data_base64"]},
    }


def batch_schema(event: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a batch of events."""
    return {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_BATCH_EVENTS}


def stored_event_schema() -> dict[str, Any]:
    """Return the schema of an event as it is shown, with its place in the log."""
    place = {
        "description": "Its place in the log; null while it waits for its time",
        "type": ["integer", "null"],
        "minimum": 1,
    }
    return {
        "description": "An event in the JSON format of CloudEvents 1.0, with its place in the log.",
        "type": "object",
        "properties": {**_attributes(), **_data(), "sequence": place},
        "required": ["specversion", "id", "source", "type", "sequence"],
        "patternProperties": {f"^(?!data$){ATTRIBUTE_NAME}$": _EXTENSION},
        "additionalProperties": False,
    }


def header_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas of `ce-` headers, in which binary mode has the attributes.

    What a header cannot hold is percent-encoded there.
    """
    attributes = _attributes()
    return {f"ce-{name}": _as_header(attributes[name]) for name in _IN_HEADERS}


def _attributes() -> dict[str, Any]:
    _, components = msgspec.json.schema_components([Event])
    found = components["Event"]["properties"]
    return {name: _described(name, found[name]) for name in _DESCRIPTIONS if name != "data"}


def _described(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("anyOf", [schema])
    plain = {"description": _DESCRIPTIONS[name], "type": "string", **choices[0]}
    if name in _TIMES:
        plain |= moment()
    elif name == "datacontenttype":
        plain["pattern"] = _MEDIA_TYPE
    elif name in URIS:
        plain["pattern"] = _URI
    elif "enum" not in plain:
        plain["pattern"] = _TEXT
    return {**plain, "type": ["string", "null"]} if len(choices) > 1 else plain


def _as_header(schema: dict[str, Any]) -> dict[str, Any]:
    plain = {**schema, "type": "string"}
    if schema.get("pattern") == _TEXT:
        plain["pattern"] = _IN_A_HEADER
    return plain


def _data() -> dict[str, Any]:
    return {
        "data": {"description": _DESCRIPTIONS["data"]},
        "data_base64": {
            "description": "Data that is not JSON: its bytes in base64",
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        },
    }
