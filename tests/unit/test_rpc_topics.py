"""The topic of a call, read from its first request as it came."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from broker.rpc.generated import broker_pb2 as pb
from broker.rpc.generated.cloudevents_pb2 import CloudEvent
from broker.rpc.topics import topic_in

METHODS = list(pb.DESCRIPTOR.services_by_name["Broker"].methods)
PUBLISH = pb.DESCRIPTOR.services_by_name["Broker"].methods_by_name["Publish"]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))
def test_every_call_names_its_topic_or_has_none(method: object) -> None:
    kind = GetMessageClass(method.input_type)  # type: ignore[attr-defined]
    named = "topic" in method.input_type.fields_by_name  # type: ignore[attr-defined]
    request = kind(topic="a") if named else kind()

    found = topic_in(method, request.SerializeToString())  # type: ignore[arg-type]

    assert found == ("a" if named else None)


@given(st.text(), st.lists(st.binary(max_size=300), max_size=5))
def test_topic_is_found_wherever_it_stands(topic: str, data: list[bytes]) -> None:
    before = pb.PublishRequest(events=[CloudEvent(binary_data=each) for each in data])
    after = pb.PublishRequest(topic=topic)

    for parts in ((before, after), (after, before), (pb.PublishRequest(topic="x"), before, after)):
        request = b"".join(part.SerializeToString() for part in parts)
        assert topic_in(PUBLISH, request) == (pb.PublishRequest.FromString(request).topic or None)


@given(st.binary(max_size=40))
def test_no_other_topic_is_found_than_the_owner_finds(request: bytes) -> None:
    found = topic_in(PUBLISH, request)
    with contextlib.suppress(DecodeError):  # whoever it is handed on to refuses it
        assert found in (None, pb.PublishRequest.FromString(request).topic)
