"""The publisher over gRPC: the broker itself, and failures that it cannot be made to have."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from broker_client import (
    BatchingPublisher,
    BrokerRefused,
    BrokerUnavailable,
    Event,
    Outbox,
    Published,
    Publisher,
)
from broker_client.grpc_publisher import GrpcPublisher
from sdk.databases import Site
from sdk.loopback_rpc import Failure, LoopbackRpc, in_turn, pause, reason
from sdk.readme import EXAMPLES, README
from sdk.tls_front import TlsFront
from support.api import good
from support.broker_process import BrokerProcess, StartBroker
from support.endpoint import SELF_SIGNED

Code = grpc.StatusCode
ADMIN_KEY = "an-admin-key-of-the-tests"


@pytest.fixture
def rpc() -> Iterator[LoopbackRpc]:
    """Run a broker whose answers are scripted."""
    with LoopbackRpc() as running:
        yield running


@pytest.fixture
def scripted(rpc: LoopbackRpc) -> Iterator[GrpcPublisher]:
    """Publish to that, with next to no waits."""
    with GrpcPublisher(rpc.target, min_backoff_s=0.001, max_backoff_s=0.002) as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Run the broker itself."""
    with closing(BrokerProcess(tmp_path_factory.mktemp("broker")).start()) as started:
        yield started


@pytest.fixture
def publisher(running: BrokerProcess) -> Iterator[GrpcPublisher]:
    with GrpcPublisher(f"127.0.0.1:{running.grpc_port}") as made:
        yield made


@pytest.fixture
def topic(running: BrokerProcess, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a topic that nobody else uses."""
    name = request.node.name.partition("[")[0][:100].replace("_", "-")
    yield name
    running.api.delete_topic(name, force=True)


def event(**data: object) -> Event:
    return Event(type="order.created", source="/shop", data=data, partitionkey="7")


# -- the broker itself


def test_receipts_are_the_broker_s(publisher: GrpcPublisher, topic: str) -> None:
    first, second = event(n=1), event(n=2)

    assert publisher.publish(topic, first) == Published(first.id, 1, False)
    assert publisher.publish_batch(topic, [first, second]) == [
        Published(first.id, 1, True),
        Published(second.id, 2, False),
    ]


def test_a_message_that_waits_has_no_sequence(publisher: GrpcPublisher, topic: str) -> None:
    later = Event(type="t", source="/s", extensions={"deliverat": "2099-01-01T00:00:00Z"})

    assert publisher.publish(topic, later) == Published(later.id, None, False)


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        ({"ü": [1.5, None, "☕"]}, None),
        (b"\x00\xff", None),
        (None, None),
        ("text", None),
        ("text", "text/plain"),
        (7, "text/plain"),
        ("<a/>", "application/xml"),
    ],
)
def test_an_event_is_the_same_whichever_way_it_is_published(
    running: BrokerProcess,
    publisher: GrpcPublisher,
    topic: str,
    data: object,
    content_type: str | None,
) -> None:
    made = Event(
        type="t",
        source="/s",
        data=data,
        datacontenttype=content_type,
        subject="café 50%",
        partitionkey="k",
        dataschema="https://example.com/schema",
        extensions={"text": "a b", "number": 3, "flag": True},
    )
    over_grpc = publisher.publish(topic, made)

    with Publisher(running.base_url) as over_http:
        assert over_http.publish(topic, made) == Published(made.id, over_grpc.sequence, True)
        other_way = f"{topic}-2"
        over_http.publish(other_way, made)
    stored, other = (good(running.api.get_message(each, 1)) for each in (topic, other_way))
    assert stored == other
    assert publisher.publish(other_way, made).duplicate
    running.api.delete_topic(other_way)


def test_a_refusal_is_the_one_that_http_has(
    running: BrokerProcess, publisher: GrpcPublisher, topic: str
) -> None:
    good(running.api.put_topic(topic, schema={"type": "object", "required": ["n"]}))
    first = event(n=1)
    publisher.publish(topic, first)
    wrong = [
        Event(type="t", source="/shop", id=first.id, data={"n": 2}),
        event(),
        event(n="x" * 2_000_000),
    ]
    with Publisher(running.base_url) as over_http:
        for each in wrong:
            told = []
            for way in (publisher, over_http):
                with pytest.raises(BrokerRefused) as caught:
                    way.publish_batch(topic, [each])
                told.append((caught.value.status, caught.value.code, caught.value.errors))
            assert told[0] == told[1]
            assert 400 <= told[0][0] < 500


def test_every_fault_of_a_large_batch_comes_through(
    running: BrokerProcess, publisher: GrpcPublisher, topic: str
) -> None:
    good(running.api.put_topic(topic, schema={"type": "integer"}))
    with pytest.raises(BrokerRefused) as caught:
        publisher.publish_batch(topic, [event() for _ in range(1000)])

    assert caught.value.status == 422
    assert len(caught.value.errors) >= 20


def test_what_is_larger_than_grpc_takes_is_refused_as_too_large(
    publisher: GrpcPublisher, topic: str
) -> None:
    with pytest.raises(BrokerRefused) as caught:
        publisher.publish_batch(topic, [event(text="x" * 1_000_000) for _ in range(30)])

    assert (caught.value.status, caught.value.code) == (413, "message_too_large")


def test_keys_open_and_refuse(start_broker: StartBroker) -> None:
    broker = start_broker(BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY)
    target = f"127.0.0.1:{broker.grpc_port}"

    with GrpcPublisher(target, api_key=ADMIN_KEY) as allowed:
        assert allowed.publish("order", event()).sequence == 1
    for key in (None, "another-key"):
        with (
            GrpcPublisher(target, api_key=key) as stranger,
            pytest.raises(BrokerRefused) as caught,
        ):
            stranger.publish("order", event())
        assert (caught.value.status, caught.value.code) == (401, "unauthorized")
        assert caught.value.of_sender


def test_a_channel_may_be_encrypted(running: BrokerProcess, topic: str) -> None:
    trusted = grpc.ssl_channel_credentials(SELF_SIGNED.read_bytes())
    with TlsFront(running.grpc_port) as front:
        target = f"localhost:{front.port}"
        with GrpcPublisher(target, credentials=trusted) as publisher:
            assert publisher.publish(topic, event()).sequence == 1
        for credentials in (grpc.ssl_channel_credentials(), None):
            with (
                GrpcPublisher(target, credentials=credentials, max_attempts=1) as stranger,
                pytest.raises(BrokerUnavailable),
            ):
                stranger.publish(topic, event())


def test_a_batching_publisher_and_an_outbox_use_it(
    running: BrokerProcess, publisher: GrpcPublisher, topic: str, sqlite_site: Site
) -> None:
    outbox = Outbox(sqlite_site.engine, publisher)
    outbox.create_tables()
    with sqlite_site.sessions.begin() as session:
        outbox.add(session, topic, event(n=1))
    assert outbox.relay_once() == 1

    with BatchingPublisher(publisher) as batching:
        receipts = [batching.publish(topic, event(n=n)) for n in range(2, 100)]

    assert [receipt.result().sequence for receipt in receipts] == list(range(2, 100))
    assert [each["data"]["n"] for each in running.api.all_messages(topic)] == list(range(1, 100))


@pytest.mark.timeout(180)
def test_a_broker_killed_in_a_burst_loses_and_doubles_nothing(start_broker: StartBroker) -> None:
    broker = start_broker()
    made = [event(n=n) for n in range(600)]

    with GrpcPublisher(f"127.0.0.1:{broker.grpc_port}", max_attempts=40) as publisher:
        for n, each in enumerate(made):
            receipt = publisher.publish("order", each)
            assert receipt.id == each.id
            if n in (150, 300, 450):
                broker.kill()
                broker.launch()
        broker.recover()

    assert [each["id"] for each in broker.api.all_messages("order")] == [each.id for each in made]


# -- failures


@pytest.mark.parametrize(
    "failure",
    [
        Failure(Code.UNAVAILABLE),
        Failure(Code.DEADLINE_EXCEEDED),
        Failure(Code.CANCELLED),
        Failure(Code.INTERNAL),
        Failure(Code.UNKNOWN),
        Failure(Code.RESOURCE_EXHAUSTED),
        Failure(Code.UNAVAILABLE, "no", reason("outcome_unknown")),
        Failure(Code.RESOURCE_EXHAUSTED, "no", reason("storage_full")),
    ],
    ids=lambda failure: f"{failure.code.name}-{bool(failure.details)}",
)
def test_what_may_pass_is_tried_again(
    failure: Failure, rpc: LoopbackRpc, scripted: GrpcPublisher
) -> None:
    rpc.publish = in_turn(failure, failure, failure, failure)

    scripted.publish("order", event())

    assert len(rpc.requests) == 5
    assert len({request.SerializeToString(deterministic=True) for request in rpc.requests}) == 1


def test_after_the_last_attempt_the_broker_is_unavailable(
    rpc: LoopbackRpc, scripted: GrpcPublisher
) -> None:
    away = Failure(Code.UNAVAILABLE, "come back later", reason("store_unavailable"))
    rpc.publish = in_turn(*[away] * 9)

    with pytest.raises(BrokerUnavailable, match="come back later") as caught:
        scripted.publish("order", event())

    assert caught.value.status == 503
    assert len(rpc.requests) == 5


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure(Code.INTERNAL, "no", reason("internal_error")), 500),
        (Failure(Code.UNIMPLEMENTED), 501),
        (Failure(Code.DATA_LOSS), 500),
    ],
)
def test_what_will_not_pass_is_not_tried_again(
    failure: Failure, status: int, rpc: LoopbackRpc, scripted: GrpcPublisher
) -> None:
    rpc.publish = in_turn(failure)

    with pytest.raises(BrokerUnavailable) as caught:
        scripted.publish("order", event())

    assert caught.value.status == status
    assert len(rpc.requests) == 1


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Failure(Code.UNAUTHENTICATED), 401, "unknown"),
        (Failure(Code.PERMISSION_DENIED), 403, "unknown"),
        (Failure(Code.NOT_FOUND, "no", reason("topic_not_found")), 404, "topic_not_found"),
        (Failure(Code.INVALID_ARGUMENT, "no", reason("malformed_request")), 400, None),
        (Failure(Code.INVALID_ARGUMENT, "no", reason("a_newer_word")), 422, "a_newer_word"),
        (Failure(Code.ABORTED, "no", reason("edit_conflict")), 409, "edit_conflict"),
    ],
)
def test_a_refusal_has_the_status_of_http_and_is_not_repeated(
    failure: Failure, status: int, code: str | None, rpc: LoopbackRpc, scripted: GrpcPublisher
) -> None:
    rpc.publish = in_turn(failure)

    with pytest.raises(BrokerRefused) as caught:
        scripted.publish("order", event())

    assert caught.value.status == status
    assert caught.value.code == (code or "malformed_request")
    assert len(rpc.requests) == 1


def test_the_wait_the_broker_asks_for_is_kept(rpc: LoopbackRpc) -> None:
    waits: list[float] = []
    rpc.publish = in_turn(
        Failure(Code.UNAVAILABLE, "no", reason("store_unavailable"), pause(7)),
        Failure(Code.UNAVAILABLE),
    )

    with GrpcPublisher(rpc.target, max_backoff_s=0.5, sleep=waits.append) as publisher:
        publisher.publish("order", event())

    assert waits[0] == 7.0
    assert waits[1] <= 0.5


def test_waits_grow_and_are_spread(rpc: LoopbackRpc) -> None:
    waits: list[float] = []
    rpc.publish = in_turn(*[Failure(Code.UNAVAILABLE)] * 60)

    with (
        GrpcPublisher(
            rpc.target, max_attempts=60, min_backoff_s=0.1, max_backoff_s=1.0, sleep=waits.append
        ) as publisher,
        pytest.raises(BrokerUnavailable),
    ):
        publisher.publish("order", event())

    assert waits[0] <= 0.1
    assert 0.5 < max(waits) <= 1.0
    assert len(set(waits)) > 50


def test_where_nobody_listens_the_broker_is_unavailable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{reserved.getsockname()[1]}"
        with (
            GrpcPublisher(target, max_attempts=2, min_backoff_s=0) as publisher,
            pytest.raises(BrokerUnavailable, match=target) as caught,
        ):
            publisher.publish("order", event())

    assert caught.value.status is None


def test_a_broker_that_does_not_answer_in_time_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            GrpcPublisher(target, timeout_s=0.1, max_attempts=1) as publisher,
            pytest.raises(BrokerUnavailable, match="no answer"),
        ):
            publisher.publish("order", event())


def test_an_answer_that_is_no_receipt_is_not_taken_for_one(
    rpc: LoopbackRpc, scripted: GrpcPublisher
) -> None:
    rpc.publish = lambda request: type(in_turn()(request))()

    with pytest.raises(BrokerUnavailable, match="other than the broker"):
        scripted.publish("order", event())
    assert len(rpc.requests) == 1


def test_the_api_key_is_sent_with_each_request(rpc: LoopbackRpc) -> None:
    with GrpcPublisher(rpc.target, api_key="secret") as publisher:
        publisher.publish("order", event())

    assert rpc.metadata[0]["authorization"] == "Bearer secret"


def test_a_batch_travels_as_written(rpc: LoopbackRpc, scripted: GrpcPublisher) -> None:
    made = [event(n=n, text="ü") for n in range(2)]

    scripted.publish_encoded("order", [each.to_json() for each in made])

    [request] = rpc.requests
    assert [json.loads(each.binary_data) for each in request.events] == [e.data for e in made]
    assert [each.id for each in request.events] == [each.id for each in made]


def test_what_cannot_be_is_refused_here(rpc: LoopbackRpc, scripted: GrpcPublisher) -> None:
    with pytest.raises(ValueError, match="topic name"):
        scripted.publish("a/b", event())
    with pytest.raises(ValueError, match="1000"):
        scripted.publish_batch("order", [event()] * 1001)
    with pytest.raises(ValueError, match="host:port"):
        GrpcPublisher("http://localhost:50051")
    assert scripted.publish_batch("order", []) == []
    assert rpc.requests == []


def test_a_closed_publisher_opens_a_new_channel(rpc: LoopbackRpc, scripted: GrpcPublisher) -> None:
    scripted.publish("order", event())
    scripted.close()

    scripted.publish("order", event())
    assert len(rpc.requests) == 2


def test_readme_s_example_runs(start_broker: StartBroker) -> None:
    broker = start_broker()
    [code] = [each for each in EXAMPLES if "GrpcPublisher" in each]
    code = code.replace("localhost:50051", f"127.0.0.1:{broker.grpc_port}")

    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(README), "exec"), namespace)

    assert [each.sequence for each in (namespace["first"], *namespace["others"])] == [1, 2]
