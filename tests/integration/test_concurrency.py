"""Many callers at once: one identity, one creation, one log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from support.api import Api
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Endpoint
from support.eventually import eventually

CALLERS = 12


def at_once(
    broker: BrokerProcess, call: Callable[[Api, int], httpx.Response]
) -> list[httpx.Response]:
    """Make a call from many threads at the same moment, each with a connection of its own."""
    gate = threading.Barrier(CALLERS)

    def make(number: int) -> httpx.Response:
        with Api(broker.base_url) as api:
            api.http.get("/healthz")
            gate.wait()
            return call(api, number)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(make, range(CALLERS)))


def test_same_message_from_many_is_stored_once(broker: BrokerProcess, topic: str) -> None:
    answers = at_once(broker, lambda api, _number: api.publish(topic, 1, id="m"))

    bodies = [answer.json() for answer in answers]
    assert [body["duplicate"] for body in bodies].count(False) == 1
    assert len({body["sequence"] for body in bodies}) == 1
    assert len(list(broker.api.all_messages(topic))) == 1


def test_one_id_with_different_data_is_stored_once(broker: BrokerProcess, topic: str) -> None:
    answers = at_once(broker, lambda api, number: api.publish(topic, number, id="m"))

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] + [409] * (CALLERS - 1)
    assert len(list(broker.api.all_messages(topic))) == 1


def test_overlapping_batches_store_each_message_once(broker: BrokerProcess, topic: str) -> None:
    def publish(api: Api, number: int) -> httpx.Response:
        events = [event(id=str(n), data=n) for n in range(number, number + 20)]
        return api.publish_batch(topic, events)

    answers = at_once(broker, publish)

    told = {
        entry["id"]: entry["sequence"] for answer in answers for entry in answer.json()["messages"]
    }
    stored = list(broker.api.all_messages(topic))
    assert {message["id"]: message["sequence"] for message in stored} == told
    assert len(stored) == CALLERS + 19


def test_sequences_of_many_publishers_are_unique_and_complete(
    broker: BrokerProcess, topic: str
) -> None:
    def publish(api: Api, number: int) -> httpx.Response:
        for n in range(20):
            answer = api.publish(topic, [number, n])
            assert answer.status_code == 201
        return answer

    at_once(broker, publish)

    stored = list(broker.api.all_messages(topic))
    sequences = [message["sequence"] for message in stored]
    assert sequences == sorted(set(sequences))
    for number in range(CALLERS):
        own = [message["data"][1] for message in stored if message["data"][0] == number]
        assert own == list(range(20))


def test_subscription_put_by_many_is_created_once(
    broker: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    answers = at_once(
        broker, lambda api, _number: api.put_subscription(topic, "s", endpoint=endpoint.url)
    )

    assert sorted(answer.status_code for answer in answers) == [200] * (CALLERS - 1) + [201]
    assert len([answer for answer in answers if answer.json().get("secret")]) == 1
    sequence = broker.api.ok_publish(topic, 1)
    eventually(lambda: endpoint.sequences == [sequence])


def test_topic_put_by_many_is_created_once(broker: BrokerProcess, topic: str) -> None:
    answers = at_once(broker, lambda api, _number: api.put_topic(topic))

    assert sorted(answer.status_code for answer in answers) == [200] * (CALLERS - 1) + [201]


def test_subscribing_while_others_publish_misses_nothing_after_it(
    broker: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    created = threading.Event()

    def publish_or_subscribe(api: Api, number: int) -> httpx.Response:
        if number == 0:
            answer = api.put_subscription(topic, "s", endpoint=endpoint.url)
            created.set()
            return answer
        for n in range(10):
            api.publish(topic, n)
        created.wait(10)
        return api.publish(topic, "after")

    answers = at_once(broker, publish_or_subscribe)

    after = {answer.json()["sequence"] for answer in answers[1:]}
    eventually(lambda: after <= set(endpoint.sequences))
    stored = [message["sequence"] for message in broker.api.all_messages(topic)]
    first = min(endpoint.sequences)
    eventually(lambda: set(endpoint.sequences) == {each for each in stored if each >= first})


def test_deleting_a_topic_under_load_leaves_no_half(
    broker: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    broker.api.ok_subscribe(topic, endpoint.url)

    def publish_or_delete(api: Api, number: int) -> httpx.Response:
        if number == 0:
            return api.delete_topic(topic, force=True)
        for n in range(9):
            api.publish(topic, n)
        return api.publish(topic, "last")

    answers = at_once(broker, publish_or_delete)

    assert answers[0].status_code == 204
    assert {answer.status_code for answer in answers[1:]} == {201}
    sequences = [message["sequence"] for message in broker.api.all_messages(topic)]
    assert sequences == sorted(set(sequences))
    assert broker.api.ok_publish(topic, "fresh") > max(sequences, default=0)
    assert broker.is_ready()
