"""`rate_limit`: deliveries a second, whatever they are packed in."""

from __future__ import annotations

import json

import pytest

from support.api import INSTANT_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint
from support.eventually import eventually
from support.problem import read_problem
from support.witness import Witness


def publish_many(api: Api, topic: str, count: int, keys: int = 0) -> list[int]:
    """Publish a batch, over some keys or without one, and give its sequences."""
    key = {n: {"partitionkey": f"k{n % keys}"} if keys else {} for n in range(count)}
    events = [event(id=f"m{n}", data=n, **key[n]) for n in range(count)]
    return [each["sequence"] for each in good(api.publish_batch(topic, events))["messages"]]


def took(endpoint: Endpoint) -> float:
    """The seconds from the first request to the last."""
    first, *_, last = sorted(request.at for request in endpoint.requests)
    return last - first


def test_rate_limit_is_shown_and_null_lifts_it(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, rate_limit=12.5)
    assert api.ok_status(topic)["rate_limit"] == 12.5

    good(api.put_subscription(topic, "s", rate_limit=None))
    assert api.ok_status(topic)["rate_limit"] is None


@pytest.mark.parametrize("value", [0, -1, "10", True, [], 1e999])
def test_wrong_rate_limit_is_refused(
    api: Api, topic: str, endpoint: Endpoint, value: object
) -> None:
    body = json.dumps({"endpoint": endpoint.url, "rate_limit": value})  # infinity stands as such
    answer = api.http.put(
        f"/v1/topics/{topic}/subscriptions/s",
        content=body,
        headers={"content-type": "application/json"},
    )

    read_problem(answer, 400, 422)
    assert api.get_subscription(topic, "s").status_code == 404


@pytest.mark.parametrize("ordering", ["key", "topic", "none"])
def test_deliveries_take_their_time(
    api: Api, topic: str, endpoint: Endpoint, ordering: str
) -> None:
    sequences = publish_many(api, topic, 60, keys=5)
    api.ok_subscribe(topic, endpoint.url, start="beginning", ordering=ordering, rate_limit=30)

    eventually(lambda: api.backlog(topic) == 0)

    assert sorted(endpoint.sequences) == sequences
    assert took(endpoint) > 0.95  # a burst of a second's worth is free, no more


def test_each_member_of_a_batch_counts(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = publish_many(api, topic, 60)
    api.ok_subscribe(
        topic, endpoint.url, start="beginning", format="batch", max_batch=10, rate_limit=30
    )

    eventually(lambda: api.backlog(topic) == 0)

    assert sorted(endpoint.sequences) == sequences
    assert took(endpoint) > 0.6  # the last batch may have had to wait for its first token only


def test_batch_larger_than_the_rate_is_sent_all_the_same(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    sequences = publish_many(api, topic, 8)
    api.ok_subscribe(
        topic, endpoint.url, start="beginning", format="batch", max_batch=8, rate_limit=4
    )

    eventually(lambda: api.backlog(topic) == 0)

    assert sorted(endpoint.sequences) == sequences


def test_attempts_count_too(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(404 if request.attempt <= 3 else 200)
    publish_many(api, topic, 15)
    api.ok_subscribe(topic, endpoint.url, start="beginning", rate_limit=30, retry=INSTANT_RETRY)

    eventually(lambda: api.backlog(topic) == 0)

    assert len(endpoint.requests) == 60
    assert took(endpoint) > 0.95


def test_limit_of_one_subscription_slows_no_other(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint() as slow:
        api.ok_subscribe(topic, slow.url, "slow", rate_limit=0.01)
        api.ok_subscribe(topic, endpoint.url, "fast")
        sequences = publish_many(api, topic, 100)

        eventually(lambda: sorted(endpoint.sequences) == sequences)

        assert len(slow.requests) <= 1


def test_raised_limit_counts_at_once(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, rate_limit=0.01)
    sequences = publish_many(api, topic, 50)
    eventually(lambda: len(endpoint.requests) == 1)

    good(api.put_subscription(topic, "s", rate_limit=None))

    eventually(lambda: sorted(endpoint.sequences) == sequences)


def test_limit_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    restartable.api.ok_subscribe(topic, endpoint.url, rate_limit=0.01)
    publish_many(restartable.api, topic, 20)
    eventually(lambda: len(endpoint.requests) == 1 and restartable.api.backlog(topic) == 19)

    restartable.kill()
    restartable.start()
    witness.let_pass(restartable.api)

    assert len(endpoint.requests) <= 2
    assert restartable.api.ok_status(topic)["rate_limit"] == 0.01


def test_kill_loses_no_message_that_waits_for_its_turn_at_most_once(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    restartable.api.ok_subscribe(topic, endpoint.url, guarantee="at-most-once", rate_limit=5)
    sequences = publish_many(restartable.api, topic, 60)
    endpoint.wait_for(3)

    restartable.kill()
    restartable.start()
    good(restartable.api.put_subscription(topic, "s", rate_limit=None))
    last = restartable.api.ok_publish(topic, "last")
    eventually(lambda: last in endpoint.sequences)
    eventually(lambda: restartable.api.ok_status(topic)["in_flight"] == 0)

    delivered = endpoint.sequences
    assert len(delivered) == len(set(delivered))
    assert len(delivered) >= len(sequences) + 1 - 5
