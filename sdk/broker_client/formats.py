"""CloudEvents on the wire: the JSON format, and the HTTP binding's three content modes.

Pure: everything here turns attributes and data into text or bytes, or back.
"""

import base64
import json
import re
from codecs import lookup
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from broker_client.errors import MalformedEvent

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_JSON_TYPE = re.compile(r"[^/;\s]+/(?:[^;\s]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
# Python's own codecs for other things than text. The first two take time by the body's square.
_NO_CHARSETS = {"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"}
_ESCAPED = re.compile(r"\\(.)")

Parts = tuple[dict[str, Any], Any]
"""An event in two pieces: its attributes by name, and its data."""


def dump_json(value: Any) -> str:
    """Write compact JSON. Raises TypeError or ValueError for what JSON cannot say."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def media_type(headers: Mapping[str, str]) -> str:
    """Return the content type without its parameters; header names are in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def join_document(attributes: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Put attributes and data together in the JSON format; bytes travel as `data_base64`."""
    document = {name: value for name, value in attributes.items() if value is not None}
    if isinstance(data, bytes):
        document["data_base64"] = base64.b64encode(data).decode("ascii")
    elif data is not None:
        document["data"] = data
    return document


def split_document(document: object) -> Parts:
    """Take a JSON-format event apart. Raises MalformedEvent."""
    if not isinstance(document, Mapping):
        raise MalformedEvent("an event in JSON is an object")

    attributes = {name: value for name, value in document.items() if value is not None}
    data = attributes.pop("data", None)
    encoded = attributes.pop("data_base64", None)
    if encoded is None:
        return attributes, data
    if data is not None:
        raise MalformedEvent("data and data_base64 exclude each other")
    return attributes, _from_base64(encoded)


def write_data(content_type: str | None, data: Any) -> bytes | None:
    """Write data as the bytes that it travels in by itself; None is no data.

    They are those that the broker keeps of the same data in the JSON format.
    """
    if data is None or isinstance(data, bytes):
        return data
    if isinstance(data, str) and content_type is not None and not _JSON_TYPE.match(content_type):
        return data.encode()
    return dump_json(data).encode()


def read_data(content_type: str | None, content: bytes | None) -> Any:
    """Read data from its bytes; what is not the JSON that it is said to be stays bytes."""
    if content is None:
        return None
    if content_type is None or _JSON_TYPE.match(content_type):
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            return content
    return _binary_data(content_type, content)


def read_batch(body: bytes) -> list[Parts]:
    """Take a batch in the JSON format apart. Raises MalformedEvent."""
    documents = _load_json(body)
    if not isinstance(documents, list):
        raise MalformedEvent("a batch of events in JSON is an array")
    return [split_document(document) for document in documents]


def read_event(headers: Mapping[str, str], body: bytes) -> Parts:
    """Take a request in structured or binary mode apart; header names are in lower case.

    Raises MalformedEvent, also for a batch.
    """
    kind = media_type(headers)
    if kind == BATCH:
        raise MalformedEvent("this is a batch of events, not one event")
    if kind == STRUCTURED:
        return split_document(_load_json(body))
    return _binary_attributes(headers), _binary_data(headers.get("content-type"), body)


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        name.removeprefix("ce-"): _header_text(name, value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    if headers.get("content-type"):
        attributes["datacontenttype"] = headers["content-type"]
    return attributes


def _header_text(name: str, value: str) -> str:
    """Undo the binding's quoting and percent-encoding of a header's value."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise MalformedEvent(f"the header {name} is not percent-encoded UTF-8") from error


def _binary_data(content_type: str | None, body: bytes) -> Any:
    """Read a body as its type says: JSON as its value, text as str, all else as bytes."""
    if content_type is None or not content_type:
        return body if body else None
    if _JSON_TYPE.match(content_type):
        return _load_json(body) if body else None
    if content_type.lower().startswith("text/"):
        return _text_or_bytes(content_type, body)
    return body


def _text_or_bytes(content_type: str, body: bytes) -> str | bytes:
    charset = _CHARSET.search(content_type)
    try:
        codec = lookup("utf-8" if charset is None else charset[1]).name
        return body if codec in _NO_CHARSETS else body.decode(codec)
    except (LookupError, ValueError):
        return body


def _load_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise MalformedEvent("the body is JSON nested too deeply to be read") from None
    except ValueError as error:
        raise MalformedEvent(f"the body is not JSON: {error}") from error


def _from_base64(encoded: object) -> bytes:
    if not isinstance(encoded, str):
        raise MalformedEvent("data_base64 is a string")
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise MalformedEvent(f"data_base64 is not base64: {error}") from error
