"""A subscription that is paused by hand: messages wait, none is lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, accepted, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, by_attempt
from support.eventually import eventually
from support.witness import Witness

OK = Answer(200)


def test_paused_messages_wait_and_come_in_order(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.pause(topic)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(10)]

    witness.let_pass(api)
    assert endpoint.requests == []
    shown = api.ok_status(topic)
    assert (shown["state"], shown["backlog"], shown["in_flight"]) == ("paused", 10, 0)

    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == sequences
    shown = api.ok_status(topic)
    assert (shown["state"], shown["paused_reason"]) == ("active", None)


@pytest.mark.parametrize("ordering", ["key", "topic", "none"])
@pytest.mark.parametrize("format", ["binary", "batch"])
def test_every_kind_of_subscription_can_be_paused(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness, ordering: str, format: str
) -> None:
    api.ok_subscribe(topic, endpoint.url, ordering=ordering, format=format)
    api.pause(topic)
    events = [event(id=str(n), partitionkey=f"k{n % 3}") for n in range(12)]
    told = good(api.publish_batch(topic, events))["messages"]

    witness.let_pass(api)
    assert endpoint.requests == []

    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    assert sorted(endpoint.sequences) == [each["sequence"] for each in told]


def test_pause_and_resume_may_be_repeated(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.resume(topic)
    api.pause(topic)
    api.pause(topic)
    sequence = api.ok_publish(topic, 1)

    api.resume(topic)
    api.resume(topic)

    eventually(lambda: endpoint.sequences == [sequence] and api.backlog(topic) == 0)


def test_subscription_without_endpoint_can_be_paused(api: Api, topic: str) -> None:
    api.put_subscription(topic, "s")

    api.pause(topic)
    assert api.ok_status(topic)["state"] == "paused"

    api.resume(topic)
    assert api.ok_status(topic)["state"] == "active"


def test_request_that_is_out_when_paused_counts(api: Api, topic: str, endpoint: Endpoint) -> None:
    release = threading.Event()

    def hold(request: Received) -> Answer:
        release.wait(20)
        return Answer(200 if request.key == "good" else 500)

    endpoint.script = hold
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    fine = api.ok_publish(topic, 1, key="good")
    bad = api.ok_publish(topic, 1, key="bad")
    eventually(lambda: len(endpoint.requests) == 2)

    api.pause(topic)
    release.set()
    eventually(lambda: api.ok_status(topic)["retrying"] == 1 and api.backlog(topic) == 1)
    assert sorted(endpoint.sequences) == [fine, bad]

    endpoint.script = always(OK)
    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences[2:] == [bad]
    assert endpoint.requests[2].attempt == 2


def test_retries_wait_too(api: Api, topic: str, endpoint: Endpoint, witness: Witness) -> None:
    endpoint.script = by_attempt(Answer(404), OK)
    retry = {"max_attempts": 5, "min_backoff_s": 0.3, "max_backoff_s": 0.3}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    api.ok_publish(topic, 1)
    eventually(lambda: endpoint.requests)

    api.pause(topic)
    eventually(lambda: api.ok_status(topic)["in_flight"] == 0)
    sent = len(endpoint.requests)
    witness.let_pass(api, 20)  # of 20 ms at least each
    assert len(endpoint.requests) == sent

    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    assert [request.attempt for request in endpoint.requests] == [1, 2]


def test_put_never_resumes(api: Api, topic: str, endpoint: Endpoint, witness: Witness) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.pause(topic)
    sequence = api.ok_publish(topic, 1)

    for fields in ({}, {"endpoint": endpoint.url}, {"endpoint": None}, {"ordering": "none"}):
        answer = api.put_subscription(topic, "s", **fields)
        assert good(answer)["state"] == "paused"
    api.put_subscription(topic, "s", endpoint=endpoint.url)
    witness.let_pass(api)
    assert endpoint.requests == []

    api.resume(topic)
    eventually(lambda: endpoint.sequences == [sequence])


def test_pause_stops_one_subscription_only(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint() as other:
        api.ok_subscribe(topic, endpoint.url, "paused")
        api.ok_subscribe(topic, other.url, "active")
        api.pause(topic, "paused")
        sequences = [api.ok_publish(topic, n) for n in range(5)]

        eventually(lambda: sorted(other.sequences) == sequences)

        assert endpoint.requests == []
        assert api.ok_status(topic, "active")["state"] == "active"


@pytest.mark.parametrize("end", [BrokerProcess.kill, BrokerProcess.stop])
def test_pause_survives_a_restart(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness, end: Any
) -> None:
    endpoint.script = lambda request: Answer(500 if request.key == "bad" else 200)
    api = restartable.api
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    bad = api.ok_publish(topic, 1, key="bad")
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)
    api.pause(topic)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]

    end(restartable)
    restartable.start()
    witness.let_pass(restartable.api)
    assert endpoint.sequences == [bad]
    shown = restartable.api.ok_status(topic)
    assert (shown["state"], shown["backlog"]) == ("paused", 4)

    restartable.api.resume(topic)
    eventually(lambda: restartable.api.backlog(topic) == 1)
    assert endpoint.sequences == [bad, *sequences]


def test_resume_survives_a_kill(restartable: BrokerProcess, topic: str, endpoint: Endpoint) -> None:
    restartable.api.ok_subscribe(topic, endpoint.url)
    restartable.api.pause(topic)
    restartable.api.resume(topic)

    restartable.kill()
    restartable.start()

    sequence = restartable.api.ok_publish(topic, 1)
    eventually(lambda: endpoint.sequences == [sequence])


def test_pausing_under_load_loses_nothing(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, max_in_flight=8)
    events = [event(id=str(n), partitionkey=f"k{n % 10}") for n in range(400)]
    told = good(api.publish_batch(topic, events))["messages"]

    while api.backlog(topic):
        accepted(api.act(topic, "pause"))
        accepted(api.act(topic, "resume"))

    assert sorted(endpoint.sequences) == [each["sequence"] for each in told]
    for key in range(10):
        of_key = [each.sequence for each in endpoint.requests if each.key == f"k{key}"]
        assert of_key == sorted(of_key)
