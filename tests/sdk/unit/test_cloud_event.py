"""Events on their way over gRPC."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from broker_client import Event, MalformedEvent
from broker_client.cloud_event import from_cloud_event, to_cloud_event
from broker_client.formats import write_data
from broker_client.generated.cloudevents_pb2 import CloudEvent
from sdk.events import events

Value = CloudEvent.CloudEventAttributeValue
REQUIRED = {"id": "1", "source": "/s", "type": "t", "spec_version": "1.0"}


@given(events)
def test_an_event_survives_the_protobuf_format(event: Event) -> None:
    wire = to_cloud_event(event).SerializeToString()

    assert from_cloud_event(CloudEvent.FromString(wire)) == event


@given(events)
def test_data_is_the_same_as_in_the_json_format(event: Event) -> None:
    """Or a repeat over the other way would be refused as a different message."""
    data = to_cloud_event(event).binary_data

    if event.data is None or isinstance(event.data, bytes):
        assert data == (event.data or b"")
    else:
        assert f'"data":{data.decode()}}}' in event.to_json()


@pytest.mark.parametrize(
    ("content_type", "data", "written"),
    [
        ("text/plain", "hats", b"hats"),
        ("application/xml", "<hat/>", b"<hat/>"),
        ("text/plain", 7, b"7"),
        ("application/json", "hats", b'"hats"'),
        ("application/vnd.shop+json; charset=utf-8", "hats", b'"hats"'),
        (None, None, None),
        ("application/json", b"{", b"{"),
    ],
)
def test_data_is_written_as_its_type_says(
    content_type: str | None, data: object, written: bytes | None
) -> None:
    assert write_data(content_type, data) == written


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (CloudEvent(**REQUIRED, text_data='{"a": 1}'), {"a": 1}),
        (CloudEvent(**REQUIRED, binary_data=b"\xff"), b"\xff"),
        (CloudEvent(**REQUIRED, binary_data=b"no JSON"), b"no JSON"),
        (
            CloudEvent(
                **REQUIRED,
                binary_data=b"hats",
                attributes={"datacontenttype": Value(ce_string="text/plain")},
            ),
            "hats",
        ),
        (CloudEvent(**REQUIRED), None),
    ],
)
def test_data_of_others_is_read(event: CloudEvent, data: object) -> None:
    assert from_cloud_event(event).data == data


def test_attributes_of_others_are_read() -> None:
    attributes = {
        "dataschema": Value(ce_uri="https://example.com/order.json"),
        "link": Value(ce_uri_ref="/order/7"),
        "whole": Value(ce_integer=7),
    }
    read = from_cloud_event(CloudEvent(**REQUIRED, attributes=attributes))

    assert read.dataschema == "https://example.com/order.json"
    assert read.extensions == {"link": "/order/7", "whole": 7}
    assert read.time is None


@pytest.mark.parametrize(
    "event",
    [
        CloudEvent(),
        CloudEvent(**{**REQUIRED, "spec_version": "0.3"}),
        CloudEvent(**REQUIRED, attributes={"x": Value(ce_bytes=b"x")}),
        CloudEvent(**REQUIRED, attributes={"x": Value()}),
    ],
)
def test_what_is_no_event_is_malformed(event: CloudEvent) -> None:
    with pytest.raises(MalformedEvent):
        from_cloud_event(event)


def test_data_that_json_cannot_say_is_refused_here() -> None:
    with pytest.raises(TypeError):
        to_cloud_event(Event(type="t", source="/s", data=object()))
    with pytest.raises(ValueError, match="JSON"):
        to_cloud_event(Event(type="t", source="/s", data=float("nan")))
    assert json.loads(to_cloud_event(Event(type="t", source="/s", data=[])).binary_data) == []
