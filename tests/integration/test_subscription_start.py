"""Where a subscription starts, and that a PUT never moves it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from support.api import Api
from support.broker_process import StartBroker
from support.endpoint import Endpoint
from support.eventually import eventually


@pytest.fixture
def log(api: Api, topic: str) -> list[int]:
    """The sequences of five messages that were there before."""
    return [api.ok_publish(topic, n) for n in range(5)]


def delivered(api: Api, topic: str, endpoint: Endpoint) -> list[int]:
    """Publish one more message, wait for it, and give everything delivered, in order of sequence.

    Without keys the order of arrival is free, so wait until nothing is owed.
    """
    last = api.ok_publish(topic, "last")
    eventually(lambda: last in endpoint.sequences and api.ok_status(topic)["backlog"] == 0)
    return sorted(endpoint.sequences)


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("fields", [{}, {"start": "now"}, {"start": None}])
def test_start_now_skips_what_was_there(
    api: Api, topic: str, endpoint: Endpoint, fields: dict[str, str]
) -> None:
    api.ok_subscribe(topic, endpoint.url, **fields)

    assert len(delivered(api, topic, endpoint)) == 1


def test_start_beginning_delivers_everything(
    api: Api, topic: str, endpoint: Endpoint, log: list[int]
) -> None:
    api.ok_subscribe(topic, endpoint.url, start="beginning")

    assert delivered(api, topic, endpoint)[:-1] == log


def test_start_at_a_sequence_delivers_it_and_what_follows(
    api: Api, topic: str, endpoint: Endpoint, log: list[int]
) -> None:
    api.ok_subscribe(topic, endpoint.url, start=log[3])

    assert delivered(api, topic, endpoint)[:-1] == log[3:]


def test_start_at_a_time_delivers_what_was_stored_since(
    api: Api, topic: str, endpoint: Endpoint, log: list[int]
) -> None:
    stored_at = api.get_message(topic, log[4]).json()["time"]
    moment = datetime.now(UTC)
    later = [api.ok_publish(topic, n) for n in range(3)]

    api.ok_subscribe(topic, endpoint.url, start=moment.isoformat().replace("+00:00", "Z"))

    assert datetime.fromisoformat(stored_at) <= moment
    assert delivered(api, topic, endpoint)[:-1] == later


def test_start_at_a_time_takes_any_offset(
    api: Api, topic: str, endpoint: Endpoint, log: list[int]
) -> None:
    api.ok_subscribe(topic, endpoint.url, start="2020-01-01T00:00:00+02:00")

    assert delivered(api, topic, endpoint)[:-1] == log


def test_start_of_an_empty_topic_is_its_first_message(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url, start="beginning")

    assert len(delivered(api, topic, endpoint)) == 1


def test_start_counts_at_creation_only(
    api: Api, topic: str, endpoint: Endpoint, log: list[int]
) -> None:
    api.ok_subscribe(topic, endpoint.url, start=log[4])
    eventually(lambda: endpoint.sequences == log[4:])

    api.ok_subscribe(topic, endpoint.url, start="beginning")

    assert delivered(api, topic, endpoint)[:-1] == log[4:]


def test_put_again_loses_and_repeats_nothing(api: Api, topic: str, endpoint: Endpoint) -> None:
    published = []
    for n in range(30):
        if n % 3 == 0:
            api.ok_subscribe(topic, endpoint.url)
        published.append(api.ok_publish(topic, n))

    assert delivered(api, topic, endpoint)[:-1] == published


def test_new_endpoint_gets_what_is_still_owed(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint() as dead:
        gone = dead.url
    api.ok_subscribe(topic, gone)
    owed = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["last_error"])

    api.put_subscription(topic, "s", endpoint=endpoint.url)

    eventually(lambda: endpoint.sequences == [owed])


def test_start_after_a_time_in_which_nobody_listened(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    worker = broker.worker().pid
    broker.api.ok_subscribe("t", endpoint.url)
    first = [broker.api.ok_publish("t", n) for n in range(3)]
    endpoint.wait_for(3)
    broker.api.delete_subscription("t", "s")
    unheard = [broker.api.ok_publish("t", n) for n in range(3)]

    broker.api.ok_subscribe("t", endpoint.url, start=unheard[0])
    assert delivered(broker.api, "t", endpoint) == [*first, *unheard, unheard[-1] + 1]

    assert broker.worker().pid == worker
