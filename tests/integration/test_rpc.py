"""What is gRPC's own: streams, health, reflection, status codes, keys, limits."""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from broker.rpc.calls import NEEDS
from broker_client.generated import broker_pb2 as pb
from broker_client.generated.broker_pb2_grpc import BrokerStub
from broker_client.generated.cloudevents_pb2 import CloudEvent
from support.api import INSTANT_RETRY
from support.broker_process import BrokerProcess
from support.doors import Refused, RpcDoor, refused

ADMIN_KEY = "an-admin-key-of-the-tests"
Value = CloudEvent.CloudEventAttributeValue


@pytest.fixture
def door(broker: BrokerProcess) -> Iterator[RpcDoor]:
    with closing(RpcDoor(broker.grpc_port)) as opened:
        yield opened


def test_event_of_every_kind_of_attribute_is_kept(
    broker: BrokerProcess, door: RpcDoor, topic: str
) -> None:
    event = CloudEvent(
        id="a",
        source="/shop",
        type="sold",
        spec_version="1.0",
        binary_data=b"\x00\xff",
        attributes={
            "datacontenttype": Value(ce_string="application/octet-stream"),
            "dataschema": Value(ce_uri="https://example.org/schema"),
            "time": Value(ce_timestamp=Timestamp(seconds=1_700_000_000, nanos=500_000_000)),
            "partitionkey": Value(ce_string="k"),
            "whole": Value(ce_integer=-7),
            "truth": Value(ce_boolean=True),
        },
    )
    (told,) = door.stub.Publish(pb.PublishRequest(topic=topic, events=[event])).messages

    stored = broker.api.get_message(topic, told.sequence).json()
    assert stored == {
        "specversion": "1.0",
        "id": "a",
        "source": "/shop",
        "type": "sold",
        "datacontenttype": "application/octet-stream",
        "dataschema": "https://example.org/schema",
        "time": "2023-11-14T22:13:20.500000Z",
        "partitionkey": "k",
        "whole": -7,
        "truth": True,
        "data_base64": "AP8=",
        "sequence": 1,
    }
    shown = door.stub.GetMessage(pb.GetMessageRequest(topic=topic, sequence=1)).event
    assert shown.binary_data == b"\x00\xff"
    assert shown.attributes["whole"].ce_integer == -7
    assert shown.attributes["truth"].ce_boolean is True
    assert shown.attributes["time"].ce_timestamp == event.attributes["time"].ce_timestamp
    assert shown.attributes["dataschema"].ce_string == "https://example.org/schema"


def test_what_an_event_leaves_out_is_filled_in(
    broker: BrokerProcess, door: RpcDoor, topic: str
) -> None:
    request = pb.PublishRequest(topic=topic, events=[CloudEvent(text_data='{"a":1}')])
    (told,) = door.stub.Publish(request).messages

    stored = broker.api.get_message(topic, told.sequence).json()
    assert (stored["id"], stored["source"], stored["type"]) == (
        told.id,
        f"/topics/{topic}",
        topic,
    )
    assert stored["time"]
    assert stored["data"] == {"a": 1}


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (CloudEvent(attributes={"id": Value(ce_string="a")}), "events[0].id"),
        (CloudEvent(attributes={"b": Value(ce_bytes=b"x")}), "events[0].b"),
        (CloudEvent(attributes={"b": Value()}), "events[0].b"),
        (CloudEvent(spec_version="0.3"), "events[0].specversion"),
    ],
)
def test_event_that_is_none_is_refused(
    door: RpcDoor, topic: str, event: CloudEvent, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        door.stub.Publish(pb.PublishRequest(topic=topic, events=[event]))

    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused(error.value).fields == [field]


@pytest.mark.parametrize("count", [0, 1001])
def test_request_has_one_to_a_thousand_events(door: RpcDoor, topic: str, count: int) -> None:
    with pytest.raises(grpc.RpcError) as error:
        door.stub.Publish(pb.PublishRequest(topic=topic, events=[CloudEvent()] * count))

    assert refused(error.value).fields == ["events"]


def test_large_message_is_taken_and_a_larger_one_refused(door: RpcDoor, topic: str) -> None:
    limit = 1024 * 1024
    door.stub.Publish(pb.PublishRequest(topic=topic, events=[CloudEvent(binary_data=b"x" * limit)]))

    with pytest.raises(grpc.RpcError) as error:
        door.stub.Publish(
            pb.PublishRequest(topic=topic, events=[CloudEvent(binary_data=b"x" * (limit + 1))])
        )

    assert refused(error.value).code == "message_too_large"


def test_stream_is_stored_and_answered_in_order(
    broker: BrokerProcess, door: RpcDoor, topic: str
) -> None:
    def requests() -> Iterator[pb.PublishRequest]:
        for number in range(500):
            yield pb.PublishRequest(topic=topic, events=[CloudEvent(text_data=str(number))])

    answers = list(door.stub.PublishStream(requests()))

    assert [each.published.messages[0].sequence for each in answers] == [*range(1, 501)]
    assert [each["data"] for each in broker.api.all_messages(topic)] == [*range(500)]


def test_stream_goes_on_after_a_refusal(door: RpcDoor, topic: str) -> None:
    good, wrong = CloudEvent(text_data="1"), CloudEvent(source="a b")
    requests = [pb.PublishRequest(topic=topic, events=[each]) for each in (good, wrong, good)]

    first, second, third = door.stub.PublishStream(iter(requests))

    assert first.published.messages[0].sequence == 1
    assert second.refused.code == "invalid_request"
    assert second.refused.status == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [each.field for each in second.refused.faults] == ["events[0].source"]
    assert third.published.messages[0].sequence == 2


def test_health_is_told(door: RpcDoor) -> None:
    stub = health_pb2_grpc.HealthStub(door.channel)
    for service in ("", "broker.v1.Broker"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_shows_every_call(door: RpcDoor) -> None:
    database = ProtoReflectionDescriptorDatabase(door.channel)
    assert "broker.v1.Broker" in database.get_services()

    service = DescriptorPool(database).FindServiceByName("broker.v1.Broker")
    own = pb.DESCRIPTOR.services_by_name["Broker"]
    assert list(service.methods_by_name) == list(own.methods_by_name)


def test_calls_need_keys_with_their_scopes(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path, BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY)
    with closing(broker.start()):
        broker.api.http.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        made = broker.api.http.post(
            "/v1/keys", json={"name": "shop", "scopes": ["publish:order", "read:order"]}
        ).json()
        with closing(RpcDoor(broker.grpc_port)) as nobody:
            with pytest.raises(Refused) as told:
                nobody.publish("order", {})
            assert told.value.code == "unauthorized"
        with closing(RpcDoor(broker.grpc_port, made["key"])) as shop:
            assert shop.publish("order", {})[0]["sequence"] == 1
            assert shop.call("get_message", topic="order", sequence=1)
            for call, request in (
                ("get_message", {"topic": "other", "sequence": 1}),
                ("put_topic", {"topic": "order", "config": {}}),
                ("put_subscription", {"topic": "order", "subscription": "s", "config": {}}),
            ):
                with pytest.raises(Refused) as told:
                    shop.call(call, **request)
                assert told.value.code == "forbidden"
        with closing(RpcDoor(broker.grpc_port, ADMIN_KEY)) as admin:
            assert admin.call("put_topic", topic="other", config={})
        metadata = (("authorization", f"Bearer {made['key']}"),)
        with grpc.insecure_channel(f"127.0.0.1:{broker.grpc_port}") as channel:
            requests = [
                pb.PublishRequest(topic=name, events=[CloudEvent()]) for name in ("order", "other")
            ]
            answers = list(BrokerStub(channel).PublishStream(iter(requests), metadata=metadata))
        assert answers[0].published.messages[0].sequence == 2
        assert answers[1].refused.code == "forbidden"


def test_taken_port_stops_the_start_with_a_sentence(broker: BrokerProcess, tmp_path: Path) -> None:
    other = BrokerProcess(tmp_path, BROKER_GRPC_PORT=str(broker.grpc_port))
    try:
        other.launch()
        assert other.process.wait(timeout=30) != 0
    finally:
        other.close()
    said = [json.loads(line) for line in other.log().splitlines() if line.startswith("{")]
    assert any("BROKER_GRPC_PORT" in line["message"] for line in said)


def test_every_call_has_its_rule() -> None:
    service = pb.DESCRIPTOR.services_by_name["Broker"]

    assert set(NEEDS) == set(service.methods_by_name)


def test_pulled_messages_are_acked_nacked_and_kept(door: RpcDoor, topic: str) -> None:
    place = {"topic": topic, "subscription": "s"}
    door.call("put_subscription", **place, config={"retry": INSTANT_RETRY})
    publish(door, topic, 3)

    pulled = door.stub.Pull(pb.PullRequest(**place, wait_s=10)).deliveries
    assert [each.message.event.binary_data for each in pulled] == [b"0", b"1", b"2"]
    ids = [each.ack_id for each in pulled]
    acked = door.stub.Ack(pb.AckRequest(**place, ack_ids=[ids[0], "x"])).results
    assert [(each.ack_id, each.result) for each in acked] == [
        (ids[0], "settled"),
        ("x", "unknown"),
    ]
    extend = pb.ExtendRequest(**place, ack_ids=[ids[1]], ack_deadline_s=60)
    assert [each.result for each in door.stub.Extend(extend).results] == ["settled"]
    nack = pb.NackRequest(**place, ack_ids=[ids[2]], delay_s=0)
    assert [each.result for each in door.stub.Nack(nack).results] == ["settled"]
    (again,) = door.stub.Pull(pb.PullRequest(**place, wait_s=10)).deliveries
    assert (again.message.sequence, again.attempt) == (3, 2)


def test_what_comes_again_for_a_seek_is_told(door: RpcDoor, topic: str) -> None:
    place = {"topic": topic, "subscription": "s"}
    door.publish(topic, {})
    door.stub.PutSubscription(pb.PutSubscriptionRequest(**place, config={"start": "beginning"}))
    (first,) = door.stub.Pull(pb.PullRequest(**place, wait_s=10)).deliveries
    door.stub.Ack(pb.AckRequest(**place, ack_ids=[first.ack_id]))

    door.stub.Seek(pb.SeekRequest(**place, place="beginning"))
    (again,) = door.stub.Pull(pb.PullRequest(**place, wait_s=10)).deliveries

    assert (first.replay, again.replay) == (False, True)


def test_watch_shows_what_was_and_what_comes(door: RpcDoor, topic: str) -> None:
    publish(door, topic, 2)
    watching = door.stub.Watch(pb.WatchRequest(topic=topic, after=1))

    assert next(watching).sequence == 2
    publish(door, topic, 1)
    assert next(watching).sequence == 3
    door.call("delete_topic", topic=topic)
    assert list(watching) == []


class Conversation:
    """The client's side of a stream of pulls."""

    def __init__(self, door: RpcDoor, topic: str, max_outstanding: int = 0) -> None:
        self._said: queue.SimpleQueue[pb.StreamingPullRequest | None] = queue.SimpleQueue()
        self.ids: list[str] = []
        self.say(topic=topic, subscription="s", max_outstanding=max_outstanding)
        self.answers = door.stub.StreamingPull(iter(self._said.get, None))

    def say(self, **request: Any) -> None:
        self._said.put(pb.StreamingPullRequest(**request))

    def end(self) -> None:
        self._said.put(None)

    def hear(self) -> tuple[list[int], list[str]]:
        answer = next(self.answers)
        self.ids = [each.ack_id for each in answer.deliveries] or self.ids
        sequences = [each.message.sequence for each in answer.deliveries]
        return sequences, [each.result for each in answer.results]


def test_pull_brings_no_more_than_a_client_takes(door: RpcDoor, topic: str) -> None:
    """That is 4 MiB, unless it is told otherwise; what it refuses is leased all the same."""
    place = {"topic": topic, "subscription": "s"}
    door.call("put_subscription", **place, config={})
    large = CloudEvent(binary_data=b"x" * 1_000_000)
    for _ in range(8):
        door.stub.Publish(pb.PublishRequest(topic=topic, events=[large]))

    pulled = door.stub.Pull(pb.PullRequest(**place, wait_s=10)).deliveries
    sequences = [each.message.sequence for each in pulled]
    assert 1 <= len(sequences) <= 3
    talk = Conversation(door, topic, max_outstanding=100)
    while len(sequences) < 8:
        more, _ = talk.hear()
        assert 1 <= len(more) <= 3
        sequences += more
    assert sequences == [*range(1, 9)]


def test_stream_of_pulls_has_no_more_out_than_the_client_takes(door: RpcDoor, topic: str) -> None:
    door.call("put_subscription", topic=topic, subscription="s", config={})
    publish(door, topic, 5)
    talk = Conversation(door, topic, max_outstanding=2)

    assert talk.hear() == ([1, 2], [])
    assert door.call("get_subscription", topic=topic, subscription="s")["in_flight"] == 2
    first, second = talk.ids
    talk.say(ack_ids=[first])
    heard = [talk.hear(), talk.hear()]
    assert sorted(heard) == [([], ["settled"]), ([3], [])]
    talk.say(extend_ids=[second])
    assert talk.hear() == ([], ["settled"])
    talk.say(ack_ids=[second, *talk.ids])
    heard = [talk.hear(), talk.hear()]
    assert sorted(heard) == [([], ["settled", "settled"]), ([4, 5], [])]
    talk.say(ack_ids=talk.ids)
    assert talk.hear() == ([], ["settled", "settled"])
    publish(door, topic, 1)
    assert talk.hear() == ([6], [])
    talk.end()
    assert list(talk.answers) == []
    assert door.call("get_subscription", topic=topic, subscription="s")["backlog"] == 1


@pytest.mark.parametrize("outstanding", [-1, 1001])
def test_stream_of_pulls_that_is_wrong_is_refused(
    door: RpcDoor, topic: str, outstanding: int
) -> None:
    door.call("put_subscription", topic=topic, subscription="s", config={})

    with pytest.raises(grpc.RpcError) as error:
        Conversation(door, topic, outstanding).hear()
    assert refused(error.value).fields == ["max_outstanding"]


def test_stream_of_pulls_of_nothing_is_refused(door: RpcDoor, topic: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        Conversation(door, topic).hear()
    assert refused(error.value).code == "topic_not_found"


def test_stop_ends_streams_at_once(restartable: BrokerProcess) -> None:
    with closing(RpcDoor(restartable.grpc_port)) as door:
        door.call("put_subscription", topic="streamed", subscription="s", config={})
        watching = door.stub.Watch(pb.WatchRequest(topic="streamed"))
        talk = Conversation(door, "streamed")
        publish(door, "streamed", 1)
        assert next(watching).sequence == 1
        assert talk.hear() == ([1], [])
        restartable.stop()
        for answers in (watching, talk.answers):
            with contextlib.suppress(grpc.RpcError):
                assert list(answers) == []


def publish(door: RpcDoor, topic: str, count: int) -> None:
    """Publish messages numbered from 0."""
    events = [CloudEvent(text_data=str(number)) for number in range(count)]
    door.stub.Publish(pb.PublishRequest(topic=topic, events=events))
