"""How much a key may publish: the same over every door, and no more than that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker_client import BrokerUnavailable, Event, Publisher
from broker_client.generated import broker_pb2 as pb
from broker_client.generated.broker_pb2_grpc import BrokerStub
from broker_client.generated.cloudevents_pb2 import CloudEvent
from broker_client.grpc_publisher import GrpcPublisher
from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import Json, event
from support.command import run_broker
from support.eventually import eventually
from support.page import Visitor
from support.problem import read_problem

ADMIN_KEY = "an-admin-key-of-the-tests"
CODE = "publish_rate_exceeded"
RARELY = 0.01
"""One message in 100 seconds: after the first, none within a test."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with keys on."""
    running = BrokerProcess(
        tmp_path_factory.mktemp("guarded"), BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY
    )
    with closing(running.start()):
        running.api.http.headers["authorization"] = f"Bearer {ADMIN_KEY}"
        yield running


class Holder:
    """Somebody with a key that has a rate."""

    def __init__(self, broker: BrokerProcess, made: Json) -> None:
        self.id, self.key = str(made["id"]), str(made["key"])
        self.metadata = (("authorization", f"Bearer {self.key}"),)
        self.api = Api(broker.base_url)
        self.api.http.headers["authorization"] = f"Bearer {self.key}"
        self.channel = grpc.insecure_channel(f"127.0.0.1:{broker.grpc_port}")
        self.stub = BrokerStub(self.channel)

    def close(self) -> None:
        self.api.close()
        self.channel.close()


@pytest.fixture
def holders(guarded: BrokerProcess) -> Iterator[list[Holder]]:
    """Those whose keys are deleted afterwards."""
    found: list[Holder] = []
    yield found
    for holder in found:
        holder.close()
        guarded.api.http.delete(f"/v1/keys/{holder.id}")


@pytest.fixture
def holder(guarded: BrokerProcess, holders: list[Holder]) -> Holder:
    """Somebody who may publish one message, and no other within a test."""
    return made(guarded, holders, RARELY)


def made(broker: BrokerProcess, holders: list[Holder], rate: float | None) -> Holder:
    body = {"name": f"key-{len(holders)}", "scopes": ["publish:*"], "publish_rate": rate}
    holders.append(Holder(broker, good(broker.api.http.post("/v1/keys", json=body))))
    return holders[-1]


def set_rate(broker: BrokerProcess, holder: Holder, rate: float | None) -> Json:
    answer = broker.api.http.put(f"/v1/keys/{holder.id}", json={"publish_rate": rate})
    return good(answer)


def events(count: int) -> list[CloudEvent]:
    return [CloudEvent() for _ in range(count)]


def require_refused(answer: httpx.Response, least_s: int, most_s: int) -> None:
    problem = read_problem(answer, 429)
    assert problem.code == CODE
    assert "a second" in problem.detail
    assert least_s <= int(answer.headers["retry-after"]) <= most_s


def test_beyond_the_rate_nothing_is_stored(
    guarded: BrokerProcess, holder: Holder, topic: str
) -> None:
    good(holder.api.publish(topic, 1))

    require_refused(holder.api.publish(topic, 2), 50, 100)
    require_refused(holder.api.publish_batch(topic, [event()]), 50, 100)
    require_refused(holder.api.publish_event(topic, event()), 50, 100)

    assert [each["data"] for each in guarded.api.all_messages(topic)] == [1]


def test_batch_counts_its_messages(guarded: BrokerProcess, holder: Holder, topic: str) -> None:
    good(holder.api.publish_batch(topic, [event(id=str(n)) for n in range(10)]))

    require_refused(holder.api.publish(topic, 1), 900, 1000)
    assert good(guarded.api.get_topic(topic))["message_count"] == 10


def test_repeats_count(holder: Holder, topic: str) -> None:
    good(holder.api.publish_batch(topic, [event(id="a"), event(id="a"), event(id="a")]))

    require_refused(holder.api.publish(topic, 1), 200, 300)


def test_what_is_refused_for_another_reason_costs_nothing(holder: Holder, topic: str) -> None:
    assert holder.api.publish_event(topic, {"id": ""}).status_code == 422

    good(holder.api.publish(topic, 1))


def test_original_interface_has_the_same_rate(holder: Holder, topic: str) -> None:
    body = {"Topic": topic, "Body": 1}
    assert holder.api.http.post("/produce", json=body).status_code == 200

    require_refused(holder.api.http.post("/produce", json=body), 50, 100)
    require_refused(holder.api.publish(topic, 1), 50, 100)


def test_grpc_has_the_same_rate(holder: Holder, topic: str) -> None:
    request = pb.PublishRequest(topic=topic, events=events(3))
    holder.stub.Publish(request, metadata=holder.metadata)

    with pytest.raises(grpc.RpcError) as told:
        holder.stub.Publish(request, metadata=holder.metadata)
    call: Any = told.value
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(call)
    assert status is not None
    info, pause = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for each in status.details:
        each.Unpack(info)
        each.Unpack(pause)
    assert info.reason == CODE
    assert 200 < pause.retry_delay.seconds <= 300
    require_refused(holder.api.publish(topic, 1), 200, 300)


def test_publish_stream_goes_on_after_a_refusal_and_hears_of_another_rate(
    guarded: BrokerProcess, holder: Holder, topic: str
) -> None:
    again = threading.Event()

    def requests() -> Iterator[pb.PublishRequest]:
        for _ in range(2):
            yield pb.PublishRequest(topic=topic, events=events(1))
        again.wait(30)
        yield pb.PublishRequest(topic=topic, events=events(1))

    answers = holder.stub.PublishStream(requests(), metadata=holder.metadata)

    assert next(answers).published.messages[0].sequence == 1
    refused = next(answers).refused
    assert (refused.code, refused.status) == (CODE, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert 50 <= refused.retry_after_s <= 100
    set_rate(guarded, holder, None)
    again.set()
    assert next(answers).published.messages[0].sequence == 2


def test_other_keys_have_their_own(
    guarded: BrokerProcess, holder: Holder, holders: list[Holder], topic: str
) -> None:
    good(holder.api.publish(topic, 1))
    require_refused(holder.api.publish(topic, 1), 50, 100)

    free, other = made(guarded, holders, None), made(guarded, holders, RARELY)
    for _ in range(20):
        good(free.api.publish(topic, 1))
        good(guarded.api.publish(topic, 1))
    good(other.api.publish(topic, 1))
    require_refused(other.api.publish(topic, 1), 50, 100)


def test_who_waits_as_told_publishes_again(
    guarded: BrokerProcess, holders: list[Holder], topic: str
) -> None:
    quick = made(guarded, holders, 20)
    good(quick.api.publish_batch(topic, [event(id=str(n)) for n in range(40)]))
    require_refused(quick.api.publish(topic, 1), 1, 2)

    eventually(lambda: quick.api.publish(topic, 1).status_code == 201)


def test_second_and_its_messages_may_come_at_once(
    guarded: BrokerProcess, holders: list[Holder], topic: str
) -> None:
    steady = made(guarded, holders, 5)

    assert {steady.api.publish(topic, n).status_code for n in range(5)} == {201}


def test_new_rate_holds_at_once_and_outlives_a_restart(
    guarded: BrokerProcess, holder: Holder, topic: str
) -> None:
    good(holder.api.publish(topic, 1))
    assert set_rate(guarded, holder, None)["publish_rate"] is None
    for _ in range(3):
        good(holder.api.publish(topic, 1))

    assert set_rate(guarded, holder, RARELY)["publish_rate"] == RARELY
    eventually(lambda: holder.api.publish(topic, 1).status_code == 429)
    guarded.kill()
    guarded.start()
    guarded.api.http.headers["authorization"] = f"Bearer {ADMIN_KEY}"

    shown = good(guarded.api.http.get(f"/v1/keys/{holder.id}"))
    assert shown["publish_rate"] == RARELY
    good(holder.api.publish(topic, 1))
    require_refused(holder.api.publish(topic, 1), 50, 100)


def test_same_rate_again_gives_nothing_back(
    guarded: BrokerProcess, holder: Holder, topic: str
) -> None:
    good(holder.api.publish(topic, 1))

    set_rate(guarded, holder, RARELY)

    require_refused(holder.api.publish(topic, 1), 50, 100)


@pytest.mark.parametrize("rate", [0, -1, 0.0001, 1e7, "many", True, [1]])
def test_what_is_no_rate_is_refused(guarded: BrokerProcess, holder: Holder, rate: object) -> None:
    keys = guarded.api.http
    body = {"name": "wrong", "scopes": ["publish:*"], "publish_rate": rate}
    for answer in (
        keys.post("/v1/keys", json=body),
        keys.put(f"/v1/keys/{holder.id}", json={"publish_rate": rate}),
    ):
        assert read_problem(answer, 422).names("publish_rate")
    assert good(keys.get(f"/v1/keys/{holder.id}"))["publish_rate"] == RARELY


def test_change_of_no_key_is_refused(guarded: BrokerProcess, holder: Holder) -> None:
    answer = guarded.api.http.put("/v1/keys/none-such", json={"publish_rate": 1})
    assert read_problem(answer, 404).code == "key_not_found"
    answer = guarded.api.http.put(f"/v1/keys/{holder.id}", json={"name": "other"})
    assert read_problem(answer, 422).names("name")
    assert holder.api.http.put(f"/v1/keys/{holder.id}", json={"publish_rate": None}).is_error


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_client_library_waits_as_it_is_told(
    guarded: BrokerProcess, holders: list[Holder], topic: str, transport: str
) -> None:
    quick = made(guarded, holders, 20)
    waits: list[float] = []
    how: dict[str, Any] = {"api_key": quick.key, "max_attempts": 2, "sleep": waits.append}
    publisher = (
        Publisher(guarded.base_url, **how)
        if transport == "http"
        else GrpcPublisher(f"127.0.0.1:{guarded.grpc_port}", **how)
    )
    with closing(publisher):
        batch = [Event(type="t", source="/s", data=n) for n in range(1000)]
        publisher.publish_batch(topic, batch)
        with pytest.raises(BrokerUnavailable, match="20 messages a second"):
            publisher.publish(topic, batch[0])

    (wait_s,) = waits
    assert 30 <= wait_s <= 50


def test_commands_set_and_show_it(guarded: BrokerProcess, holders: list[Holder]) -> None:
    told = {"BROKER_URL": guarded.base_url, "BROKER_API_KEY": ADMIN_KEY}

    def done(*arguments: str) -> str:
        ended = run_broker("keys", *arguments, **told)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    key = json.loads(done("create", "shop", "publish:*", "--publish-rate", "2.5", "--json"))
    holders.append(Holder(guarded, key))
    assert key["publish_rate"] == 2.5
    assert "2.5/s" in done("list")
    assert done("update", key["id"], "--publish-rate", "40") == "Key shop is updated.\n"
    assert json.loads(done("show", key["id"], "--json"))["publish_rate"] == 40
    shown = json.loads(done("update", key["id"], "--publish-rate", "none", "--json"))
    assert shown["publish_rate"] is None
    wrong = run_broker("keys", "update", key["id"], "--publish-rate", "0", **told)
    assert wrong.returncode == 1
    assert "publish_rate: must be messages a second" in wrong.stderr
    assert run_broker("keys", "update", key["id"], **told).returncode == 2


def test_page_sets_and_shows_it(guarded: BrokerProcess, holder: Holder) -> None:
    with closing(Visitor(guarded.base_url)) as admin:
        (login,) = admin.open("/").forms
        admin.send(login, key=ADMIN_KEY)
        listed = admin.open("/keys")
        assert listed.row("key-0")[2] == "0.01"
        page = admin.open(f"/keys/{holder.id}")
        form = page.form(f"/keys/{holder.id}")
        assert form.fields == {"publish_rate": "0.01"}

        assert "Changed." in admin.send(form, publish_rate="12.5").text
        assert good(guarded.api.http.get(f"/v1/keys/{holder.id}"))["publish_rate"] == 12.5
        refused = admin.send(form, 422, publish_rate="many")
        assert "must be messages a second" in refused.text
        admin.send(form, publish_rate=" ")
        assert good(guarded.api.http.get(f"/v1/keys/{holder.id}"))["publish_rate"] is None
