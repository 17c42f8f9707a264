"""CloudEvents as they stand on the wire, apart from the code under test.

Percent-encoding: CloudEvents HTTP Protocol Binding 1.0.2, section 3.1.3.2.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

Json = dict[str, Any]

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"

# Printable ASCII that needs no encoding: all of it but space, double quote and percent.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def event(**attributes: Any) -> Json:
    """Make a structured event with the required attributes, `attributes` over them."""
    return {"specversion": "1.0", "id": "1", "source": "/tests", "type": "test", **attributes}


def encode_value(value: str) -> str:
    """Percent-encode an attribute's value for a header."""
    return quote(value, safe=_PLAIN)


def to_headers(attributes: Mapping[str, str]) -> dict[str, str]:
    """Give the `ce-*` headers of a binary event with these attributes."""
    return {f"ce-{name}": encode_value(value) for name, value in attributes.items()}


def from_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Give the attributes that the `ce-*` headers of a binary event carry; names in lower case."""
    return {
        name.lower().removeprefix("ce-"): unquote(value, errors="strict")
        for name, value in headers.items()
        if name.lower().startswith("ce-")
    }


def is_json_type(content_type: str) -> bool:
    """Say whether a media type holds JSON, so that `data` stands as a JSON value."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.endswith(("/json", "+json"))


def data_of(structured: Json) -> Any:
    """Give the data of a structured event: bytes, or the JSON value where the type is JSON."""
    if "data_base64" in structured:
        return base64.b64decode(structured["data_base64"], validate=True)
    data = structured.get("data")
    if is_json_type(structured.get("datacontenttype", "application/json")):
        return data
    return b"" if data is None else str(data).encode()


def same_data(structured: Json, body: bytes) -> bool:
    """Say whether a structured event carries exactly this body, in whichever form it chose."""
    data = data_of(structured)
    if isinstance(data, bytes):
        return data == body
    try:
        return bool(json.loads(body) == data)
    except ValueError:
        return data is None and body == b""
