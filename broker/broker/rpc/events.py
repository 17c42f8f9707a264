"""CloudEvents in their Protobuf format: read from requests, rendered for clients.

Source: CloudEvents 1.0.2, Protobuf event format.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from broker.cloudevents import Attributes, attributes_of, parse_time, rfc3339
from broker.errors import Fault, InvalidRequest
from broker.model import Message as StoredMessage
from broker.rpc.generated.broker_pb2 import Message
from broker.rpc.generated.cloudevents_pb2 import CloudEvent

_FIELDS = {"id": "id", "source": "source", "type": "type", "specversion": "spec_version"}


def parts_of(events: Sequence[CloudEvent]) -> list[tuple[Attributes, bytes | None]]:
    """Take events apart, as attributes and data. Raises InvalidRequest that names every fault."""
    faults: list[Fault] = []
    parts = [
        (_attributes_of(event, f"events[{position}].", faults), _data_of(event))
        for position, event in enumerate(events)
    ]
    if faults:
        raise InvalidRequest(faults)
    return parts


def _attributes_of(event: CloudEvent, prefix: str, faults: list[Fault]) -> Attributes:
    attributes: Attributes = {
        name: value for name, field in _FIELDS.items() if (value := getattr(event, field))
    }
    for name, given in event.attributes.items():
        value = _value_of(given)
        if name in _FIELDS:
            faults.append(Fault(prefix + name, "has a field of its own in CloudEvent"))
        elif value is None:
            rule = "must be a string, an integer, a boolean, a URI or a time"
            faults.append(Fault(prefix + name, rule))
        else:
            attributes[name] = value
    if event.WhichOneof("data") == "proto_data":
        rule = "is not kept: send the bytes as binary_data"
        faults.append(Fault(f"{prefix}proto_data", rule))
    return attributes


def _data_of(event: CloudEvent) -> bytes | None:
    kind = event.WhichOneof("data")
    if kind == "text_data":
        return event.text_data.encode()
    return event.binary_data if kind == "binary_data" else None


def render_message(message: StoredMessage) -> Message:
    """Render a stored message."""
    return Message(sequence=message.seq, event=render_event(message.attributes, message.data))


def render_event(stored: bytes, data: bytes | None) -> CloudEvent:
    """Render a stored event; its data are the bytes that were published."""
    event = CloudEvent(binary_data=data)
    for name, value in attributes_of(stored).items():
        field = _FIELDS.get(name)
        if field is not None:
            setattr(event, field, str(value))
        elif isinstance(value, bool):
            event.attributes[name].ce_boolean = value
        elif isinstance(value, int):
            event.attributes[name].ce_integer = value
        elif name == "time" and (at := parse_time(value)) is not None:
            event.attributes[name].ce_timestamp.CopyFrom(_timestamp(at))
        else:
            event.attributes[name].ce_string = value
    return event


def _value_of(given: CloudEvent.CloudEventAttributeValue) -> str | int | bool | None:
    kind = given.WhichOneof("attr")
    if kind is None or kind == "ce_bytes":
        return None
    if kind == "ce_timestamp":
        return rfc3339(given.ce_timestamp.seconds + given.ce_timestamp.nanos / 1e9)
    value: str | int | bool = getattr(given, kind)
    return value


def _timestamp(at: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromtimestamp(at, UTC))
    return stamp
