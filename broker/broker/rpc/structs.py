"""Configuration and views, which are JSON, as google.protobuf.Struct and back."""

from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct


def to_struct(view: msgspec.Struct) -> Struct:
    """Render a view."""
    return ParseDict(msgspec.json.decode(msgspec.json.encode(view)), Struct())


def from_struct(struct: Struct) -> dict[str, object]:
    """Read a JSON object; whole numbers, which a Struct has as doubles, are integers again."""
    read: dict[str, object] = _whole(MessageToDict(struct))
    return read


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return value
