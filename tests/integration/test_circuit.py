"""Ten failures in a row open the circuit: pauses that grow, one probe at a time, nothing spent."""

from __future__ import annotations

import itertools
import threading

import pytest

from support.api import INSTANT_RETRY, Api, good
from support.broker_process import BrokerProcess, free_port
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, by_attempt, verdict
from support.eventually import eventually
from support.witness import Witness

OK = Answer(200)
FOR_EVER = {**INSTANT_RETRY, "max_attempts": 0}


def publish_many(api: Api, topic: str, count: int) -> list[int]:
    """Publish a batch of messages, each its own key, and give their sequences."""
    events = [event(id=f"m{n}", data=n, partitionkey=f"k{n}") for n in range(count)]
    return [each["sequence"] for each in good(api.publish_batch(topic, events))["messages"]]


def is_open(api: Api, topic: str) -> bool:
    """Say whether the subscription `s` shows an open circuit."""
    return bool(api.ok_status(topic)["state"] == "circuit-open")


def open_circuit(api: Api, topic: str, endpoint: Endpoint, **fields: object) -> list[int]:
    """Fail 15 messages, one at a time, until the circuit is open; give their sequences."""
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, **{"max_in_flight": 1, "retry": FOR_EVER, **fields})
    sequences = publish_many(api, topic, 15)
    eventually(lambda: is_open(api, topic))
    return sequences


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_ten_failures_in_a_row_open_the_circuit(
    api: Api, topic: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.script = always(Answer(status))
    api.ok_subscribe(topic, endpoint.url, max_in_flight=1, retry=FOR_EVER)
    publish_many(api, topic, 15)

    eventually(lambda: is_open(api, topic))

    assert len(endpoint.requests) in (10, 11)  # a slow look may see the first probe already
    shown = api.ok_status(topic)
    assert (shown["backlog"], shown["dead_letters"]) == (15, 0)
    assert shown["last_error"]


def test_refused_connections_open_the_circuit_and_a_probe_finds_the_endpoint(
    api: Api, topic: str
) -> None:
    port = free_port()
    api.ok_subscribe(topic, f"http://127.0.0.1:{port}/hook", retry=FOR_EVER)
    sequences = publish_many(api, topic, 15)
    eventually(lambda: is_open(api, topic))

    with Endpoint(port=port) as endpoint:
        eventually(lambda: api.backlog(topic) == 0)

        assert sorted(endpoint.sequences) == sequences
        assert not is_open(api, topic)


def test_time_outs_open_the_circuit(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(delay_s=0.5))
    api.ok_subscribe(topic, endpoint.url, timeout_s=0.1, retry=FOR_EVER)
    publish_many(api, topic, 15)

    eventually(lambda: is_open(api, topic))


def test_open_circuit_waits_before_its_probe(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = open_circuit(api, topic, endpoint)
    endpoint.script = always(OK)

    eventually(lambda: api.backlog(topic) == 0)

    assert {*endpoint.sequences} == {*sequences}
    at = [request.at for request in endpoint.requests]
    assert max(later - earlier for earlier, later in itertools.pairwise(at)) > 0.45
    assert api.ok_status(topic)["state"] == "active"


def test_probe_goes_alone(api: Api, topic: str, endpoint: Endpoint, witness: Witness) -> None:
    release = threading.Event()

    def hold_probe(request: Received) -> Answer:
        release.wait(20)
        return OK

    sequences = open_circuit(api, topic, endpoint, max_in_flight=8)
    eventually(lambda: api.ok_status(topic)["in_flight"] == 0)
    sent = len(endpoint.requests)
    endpoint.script = hold_probe
    eventually(lambda: len(endpoint.requests) == sent + 1)
    witness.let_pass(api)
    assert len(endpoint.requests) == sent + 1
    assert is_open(api, topic)

    release.set()
    eventually(lambda: api.backlog(topic) == 0)
    assert {*endpoint.sequences} == {*sequences}


def test_failed_probes_spend_no_attempt_and_their_pauses_grow(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda _request: OK if len(endpoint.requests) > 11 else Answer(503)
    api.ok_subscribe(topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 11})
    api.ok_publish(topic, 1)

    eventually(lambda: api.backlog(topic) == 0)

    assert [each.attempt for each in endpoint.requests] == [*range(1, 11), 11, 11]
    assert api.ok_status(topic)["dead_letters"] == 0
    at = [request.at for request in endpoint.requests]
    assert at[11] - at[10] > at[10] - at[9]


def test_waiting_messages_spend_no_attempt(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = open_circuit(api, topic, endpoint, retry={**INSTANT_RETRY, "max_attempts": 1})

    # The first ten are exhausted; the others have not been tried.
    assert sorted(each["sequence"] for each in api.dead_letters(topic)) == sequences[:10]
    assert api.backlog(topic) == 5
    endpoint.script = always(OK)
    eventually(lambda: api.backlog(topic) == 0)

    firsts = [each.attempt for each in endpoint.requests if each.sequence in sequences[10:]]
    assert set(firsts) == {1}
    assert len(api.dead_letters(topic)) == 10


@pytest.mark.parametrize(
    "answer",
    [Answer(400), Answer(401), Answer(404), Answer(302, {"Location": "/x"}), verdict("retry")],
    ids=lambda answer: str(answer.status),
)
def test_other_failures_leave_the_circuit_closed(
    api: Api, topic: str, endpoint: Endpoint, answer: Answer
) -> None:
    endpoint.script = by_attempt(*[answer] * 24, OK)
    api.ok_subscribe(topic, endpoint.url, retry=FOR_EVER)
    api.ok_publish(topic, 1)

    eventually(lambda: api.settled_without_circuit(topic))

    assert len(endpoint.requests) == 25


@pytest.mark.parametrize("between", [OK, Answer(404)], ids=["200", "404"])
def test_another_answer_begins_the_count_anew(
    api: Api, topic: str, endpoint: Endpoint, between: Answer
) -> None:
    answers = [*[Answer(500)] * 9, between, *[Answer(500)] * 9, between, *[Answer(500)] * 9, OK]
    endpoint.script = lambda _request: answers[min(len(endpoint.requests), len(answers)) - 1]
    api.ok_subscribe(topic, endpoint.url, ordering="topic", retry=FOR_EVER)
    publish_many(api, topic, 3)

    eventually(lambda: api.settled_without_circuit(topic))

    assert len(endpoint.requests) >= len(answers)


def test_probe_that_meets_4xx_closes_the_circuit(api: Api, topic: str, endpoint: Endpoint) -> None:
    open_circuit(api, topic, endpoint, retry={**INSTANT_RETRY, "max_attempts": 12})
    endpoint.script = always(Answer(404))

    eventually(lambda: api.ok_status(topic)["state"] == "active")
    eventually(lambda: api.backlog(topic) == 0)

    assert api.ok_status(topic)["dead_letters"] == 15


def test_open_circuit_stops_one_subscription_only(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint() as healthy:
        api.ok_subscribe(topic, healthy.url, "healthy")
        api.ok_subscribe(topic, endpoint.url, "neighbour")
        with Endpoint() as failing:
            sequences = open_circuit(api, topic, failing)
            later = api.ok_publish(topic, 99)

            eventually(lambda: {*healthy.sequences} == {*sequences, later})
            eventually(lambda: {*endpoint.sequences} == {*sequences, later})
            assert is_open(api, topic)
            assert api.ok_status(topic, "healthy")["state"] == "active"
            api.delete_subscription(topic, "s")


def test_pause_shows_over_an_open_circuit_and_stops_its_probes(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    sequences = open_circuit(api, topic, endpoint)

    api.pause(topic)
    assert api.ok_status(topic)["state"] == "paused"

    endpoint.script = always(OK)
    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    assert {*endpoint.sequences} == {*sequences}


def test_restart_with_an_open_circuit_loses_nothing(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    sequences = open_circuit(restartable.api, topic, endpoint)

    restartable.kill()
    endpoint.script = always(OK)
    restartable.start()

    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert {*endpoint.sequences} == {*sequences}
    assert restartable.api.ok_status(topic)["dead_letters"] == 0


def test_keys_keep_their_order_over_an_open_circuit(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda _request: Answer(503 if len(endpoint.requests) < 12 else 200)
    api.ok_subscribe(topic, endpoint.url, retry=FOR_EVER)
    events = [event(id=str(n), partitionkey="abc"[n % 3]) for n in range(30)]
    good(api.publish_batch(topic, events))

    eventually(lambda: api.backlog(topic) == 0)

    for key in "abc":
        of_key = [each.sequence for each in endpoint.requests if each.key == key]
        assert of_key == sorted(of_key)
