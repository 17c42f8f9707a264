"""Events in CloudEvents' Protobuf format, as they travel over gRPC.

Source: CloudEvents 1.0.2, Protobuf event format.
"""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from broker_client.errors import MalformedEvent
from broker_client.event import Event
from broker_client.formats import read_data, write_data
from broker_client.generated.cloudevents_pb2 import CloudEvent

_Value = CloudEvent.CloudEventAttributeValue
_TEXTS = ("subject", "datacontenttype", "partitionkey")


def to_cloud_event(event: Event) -> CloudEvent:
    """Write an event. Raises TypeError or ValueError for data JSON cannot say."""
    attributes: dict[str, Any] = {
        name: _Value(ce_string=value)
        for name in _TEXTS
        if (value := getattr(event, name)) is not None
    }
    if event.dataschema is not None:
        attributes["dataschema"] = _Value(ce_uri=event.dataschema)
    if event.time is not None:
        attributes["time"] = _Value(ce_timestamp=_timestamp(event.time))
    for name, extension in event.extensions.items():
        attributes[name] = _value(extension)
    return CloudEvent(
        id=event.id,
        source=event.source,
        spec_version="1.0",
        type=event.type,
        attributes=attributes,
        binary_data=write_data(event.datacontenttype, event.data),
    )


def from_cloud_event(message: CloudEvent) -> Event:
    """Read an event. Raises MalformedEvent."""
    attributes: dict[str, Any] = {
        "specversion": message.spec_version,
        "id": message.id,
        "source": message.source,
        "type": message.type,
        **{name: _plain(name, value) for name, value in message.attributes.items()},
    }
    kind = message.WhichOneof("data")
    if kind == "proto_data":
        raise MalformedEvent("data of a Protobuf type is not read")
    content = message.text_data.encode() if kind == "text_data" else message.binary_data
    data = read_data(attributes.get("datacontenttype"), None if kind is None else content)
    return Event.from_parts(attributes, data)


def _value(extension: str | int | bool) -> _Value:
    if isinstance(extension, bool):
        return _Value(ce_boolean=extension)
    if isinstance(extension, int):
        return _Value(ce_integer=extension)
    return _Value(ce_string=extension)


def _plain(name: str, value: _Value) -> Any:
    kind = value.WhichOneof("attr")
    if kind is None or kind == "ce_bytes":
        raise MalformedEvent(f"{name} must be a text, a boolean, an integer, a URI or a time")
    if kind == "ce_timestamp":
        time = value.ce_timestamp.ToDatetime(UTC)
        return time.isoformat().replace("+00:00", "Z")
    return getattr(value, kind)


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
