"""gRPC at brokers that stand by: handed on to the owner, and served once they own the store."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker_client.generated import broker_pb2 as pb
from broker_client.generated.cloudevents_pb2 import CloudEvent
from support.broker_process import BrokerProcess
from support.doors import Refused, RpcDoor, refused
from support.eventually import eventually
from support.nats_server import NatsServer

ADMIN_KEY = "an-admin-key-of-the-tests"
TAKEN_OVER_S = 30.0
MIB = 1024 * 1024
_serial = itertools.count(1)
Requests = queue.SimpleQueue[Any]


class Cluster:
    """A NATS server, not started, and brokers; the first one owns the store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nats = NatsServer(folder / "nats")
        self.nats.configure()
        self.nodes: list[BrokerProcess] = []

    def launch(self, **settings: str) -> BrokerProcess:
        """Start one more broker and do not wait."""
        folder = self._folder / f"node-{len(self.nodes)}"
        folder.mkdir()
        node = BrokerProcess(
            folder,
            BROKER_STORE=f"nats://{self.nats.address}/drill",
            BROKER_REPLICA=str(folder / "replica"),
            **settings,
        )
        node.set(BROKER_NODE_URL=node.base_url)
        self.nodes.append(node)
        node.launch()
        return node

    def start(self, **settings: str) -> Cluster:
        """Start an owner, and one that stands by."""
        self.nats.start()
        for _ in range(2):
            eventually(self.launch(**settings).is_ready, within_s=TAKEN_OVER_S)
        return self

    def close(self) -> None:
        """Leave nothing of them behind."""
        for node in self.nodes:
            node.close()
            print(node.log()[-20_000:])
        self.nats.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of the test's own, of which nothing is started."""
    with closing(Cluster(tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two brokers that nobody ends."""
    with closing(Cluster(tmp_path_factory.mktemp("pair"))) as made:
        yield made.start()


@pytest.fixture
def owner(pair: Cluster) -> Iterator[RpcDoor]:
    """A way into the owner."""
    with closing(RpcDoor(pair.nodes[0].grpc_port)) as opened:
        yield opened


@pytest.fixture
def door(pair: Cluster) -> Iterator[RpcDoor]:
    """A way into the one that stands by."""
    with closing(RpcDoor(pair.nodes[1].grpc_port)) as opened:
        wait_until_serving(opened)
        yield opened


@pytest.fixture
def topic() -> str:
    """The name of a topic that nobody else uses."""
    return f"topic-{next(_serial)}"


def is_serving(door: RpcDoor) -> bool:
    """Ask the health service."""
    stub = health_pb2_grpc.HealthStub(door.channel)
    request = health_pb2.HealthCheckRequest(service="broker.v1.Broker")
    answer = stub.Check(request, wait_for_ready=True, timeout=TAKEN_OVER_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def wait_until_serving(door: RpcDoor) -> None:
    """Wait until somebody can be handed calls."""
    eventually(lambda: is_serving(door), within_s=TAKEN_OVER_S)


def numbered(topic: str, number: int) -> pb.PublishRequest:
    """Ask for one event to be stored."""
    return pb.PublishRequest(topic=topic, events=[CloudEvent(text_data=str(number))])


def requests_of(said: Requests) -> Iterator[Any]:
    """Give what is said as it is said, until None is."""
    return iter(said.get, None)


def data_in(door: RpcDoor, topic: str) -> list[Any]:
    """Read what a topic has."""
    found = door.stub.ListMessages(pb.ListMessagesRequest(topic=topic, limit=1000)).messages
    return [json.loads(each.event.binary_data) for each in found]


def test_call_is_handed_on_and_its_answer_back(door: RpcDoor, owner: RpcDoor, topic: str) -> None:
    assert door.publish(topic, {"id": "a"}, {"id": "b"})[1]["sequence"] == 2
    large = CloudEvent(binary_data=b"x" * MIB)
    told = door.stub.Publish(pb.PublishRequest(topic=topic, events=[large] * 15))

    assert told.messages[-1].sequence == 17
    assert owner.call("get_topic", topic=topic)["message_count"] == 17
    assert door.call("get_message", topic=topic, sequence=1)["event"]["id"] == "a"
    with pytest.raises(Refused) as unknown:
        door.call("get_topic", topic="none")
    assert unknown.value.code == "topic_not_found"
    with pytest.raises(Refused) as wrong:
        door.publish(topic, {"id": "a", "source": "no uri"})
    assert (wrong.value.code, wrong.value.fields) == ("invalid_request", ["events[0].source"])
    with pytest.raises(grpc.RpcError) as too_large:
        door.stub.Publish(pb.PublishRequest(topic=topic, events=[large] * 18))
    assert too_large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_call_is_handed_on_once(door: RpcDoor) -> None:
    with pytest.raises(grpc.RpcError) as error:
        door.stub.ListTopics(Empty(), metadata=(("broker-handed-on", "1"),))

    assert refused(error.value).code == "no_owner"


def test_stream_of_publishes_is_handed_on(door: RpcDoor, owner: RpcDoor, topic: str) -> None:
    said: Requests = queue.SimpleQueue()
    answers = door.stub.PublishStream(requests_of(said))

    said.put(numbered(topic, 0))
    assert next(answers).published.messages[0].sequence == 1
    said.put(pb.PublishRequest(topic=topic, events=[CloudEvent(source="a b")]))
    assert next(answers).refused.code == "invalid_request"
    for number in range(1, 500):
        said.put(numbered(topic, number))
    said.put(None)

    assert [each.published.messages[0].sequence for each in answers] == [*range(2, 501)]
    assert data_in(owner, topic) == [*range(500)]


def test_stream_of_pulls_is_handed_on(door: RpcDoor, topic: str) -> None:
    place = {"topic": topic, "subscription": "s"}
    door.call("put_subscription", **place, config={})
    for number in range(3):
        door.stub.Publish(numbered(topic, number))
    said: Requests = queue.SimpleQueue()
    answers = door.stub.StreamingPull(requests_of(said))

    said.put(pb.StreamingPullRequest(**place, max_outstanding=2))
    pulled = next(answers).deliveries
    assert [each.message.sequence for each in pulled] == [1, 2]
    said.put(pb.StreamingPullRequest(ack_ids=[each.ack_id for each in pulled]))
    heard = [next(answers), next(answers)]
    assert sorted(len(each.results) for each in heard) == [0, 2]
    assert sorted(d.message.sequence for each in heard for d in each.deliveries) == [3]
    said.put(None)

    assert list(answers) == []
    assert door.call("get_subscription", **place)["backlog"] == 1


def test_call_that_is_cancelled_is_cancelled_at_the_owner(
    door: RpcDoor, owner: RpcDoor, topic: str
) -> None:
    """Pulls that still waited there would take what comes."""
    place = {"topic": topic, "subscription": "s"}
    door.call("put_subscription", **place, config={})
    waiting = [door.stub.Pull.future(pb.PullRequest(**place, wait_s=30)) for _ in range(100)]
    owner.stub.Publish(numbered(topic, 0))
    eventually(lambda: any(each.done() for each in waiting))
    for each in waiting:
        each.cancel()

    def pulled() -> bool:
        owner.stub.Publish(numbered(topic, 1))
        answer = owner.stub.Pull(pb.PullRequest(**place, max_messages=1, wait_s=1))
        return bool(answer.deliveries)

    eventually(pulled)


def test_key_is_handed_on(cluster: Cluster) -> None:
    cluster.start(BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY)
    port = cluster.nodes[1].grpc_port

    with closing(RpcDoor(port, ADMIN_KEY)) as admin:
        wait_until_serving(admin)
        assert admin.publish("t", {})[0]["sequence"] == 1
    with closing(RpcDoor(port)) as nobody, pytest.raises(Refused) as told:
        nobody.publish("t", {})
    assert told.value.code == "unauthorized"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_stream_ends_with_its_owner_and_another_serves(
    cluster: Cluster, how: signal.Signals
) -> None:
    """The connection to the broker that stands by lasts until it owns the store, and after."""
    owner, standby = cluster.start().nodes
    said: Requests = queue.SimpleQueue()
    with closing(RpcDoor(standby.grpc_port)) as door:
        wait_until_serving(door)
        publishing = door.stub.PublishStream(requests_of(said))
        said.put(numbered("t", 0))
        assert next(publishing).published.messages[0].sequence == 1
        watching = door.stub.Watch(pb.WatchRequest(topic="t", after=0))
        assert next(watching).sequence == 1

        os.killpg(owner.process.pid, how)

        with pytest.raises(grpc.RpcError) as unknown:
            next(publishing)
        with pytest.raises(grpc.RpcError) as ended:
            next(watching)
        said.put(None)
        assert unknown.value.code() is ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused(unknown.value).code == "outcome_unknown"
        assert refused(ended.value).code == "no_owner"
        eventually(lambda: published(door), within_s=TAKEN_OVER_S)
        (again,) = door.stub.PublishStream(iter([numbered("t", 2)]))
        assert again.published.messages[0].sequence == 3
        assert is_serving(door)


def published(door: RpcDoor) -> bool:
    """Publish where somebody owns the store."""
    try:
        return bool(door.publish("t", {"id": "again"}))
    except Refused as told:
        if told.code in {"no_owner", "outcome_unknown"}:
            return False
        raise


def test_nobody_is_handed_a_call_while_nobody_owns_the_store(cluster: Cluster) -> None:
    node = cluster.launch()
    with closing(RpcDoor(node.grpc_port)) as door:
        assert not is_serving(door)
        with pytest.raises(Refused) as told:
            door.publish("t", {})
        assert told.value.code == "no_owner"

        cluster.nats.start()
        wait_until_serving(door)
        assert door.publish("t", {})[0]["sequence"] == 1
