"""What an endpoint that answers 2xx says of the delivery with `Webhook-Verdict`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, by_attempt, verdict
from support.eventually import eventually

OK = Answer(200)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_retry_is_a_failed_attempt(api: Api, topic: str, endpoint: Endpoint, status: int) -> None:
    endpoint.script = by_attempt(verdict("retry", status=status), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    assert [request.attempt for request in endpoint.requests] == [1, 2]
    (failed,) = api.attempts(topic, sequence)
    assert failed["status"] == status
    assert "retry" in failed["error"]


def test_retry_waits_for_the_backoff(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(verdict("retry"))
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    sequence = api.ok_publish(topic, 1)

    (waiting,) = eventually(lambda: api.deliveries(topic, "retrying"))

    assert (waiting["sequence"], waiting["attempt"]) == (sequence, 2)


def test_retries_end_in_a_dead_letter(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(verdict("retry"))
    api.ok_subscribe(topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 3})
    api.ok_publish(topic, 1)

    (dead,) = eventually(lambda: api.dead_letters(topic))

    assert dead["attempts"] == len(endpoint.requests) == 3


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_delays_this_delivery_only(
    api: Api, topic: str, endpoint: Endpoint, as_date: bool
) -> None:
    began = datetime.now(UTC)
    hour = format_datetime(began + timedelta(hours=1), usegmt=True) if as_date else "3600"
    endpoint.script = lambda request: (
        verdict("retry", {"Retry-After": hour}) if request.key == "busy" else OK
    )
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    busy = [api.ok_publish(topic, n, key="busy") for n in range(2)]
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)
    free = [api.ok_publish(topic, n, key=key) for n, key in enumerate(["a", "b", None])]

    eventually(lambda: set(free) <= set(endpoint.sequences) and api.backlog(topic) == 2)

    assert busy[1] not in endpoint.sequences
    (waiting,) = api.deliveries(topic, "retrying")
    assert waiting["sequence"] == busy[0]
    due = datetime.fromisoformat(waiting["next_attempt_at"])
    assert due - began > timedelta(minutes=59)


def test_retry_after_lengthens_the_wait(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(verdict("retry", {"Retry-After": "1"}), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2)

    first, second = [request.at for request in endpoint.requests]
    assert second - first > 0.9


def test_retry_opens_no_circuit(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(*[verdict("retry")] * 15, OK)
    api.ok_subscribe(topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 0})
    api.ok_publish(topic, 1)

    eventually(lambda: api.settled_without_circuit(topic))

    assert len(endpoint.requests) == 16


def test_dead_letter_is_taken_at_once(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: verdict("dead-letter") if request.body == b"0" else OK
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]

    eventually(lambda: len(endpoint.requests) == 3 and api.backlog(topic) == 0)

    assert endpoint.sequences == sequences
    (dead,) = api.dead_letters(topic)
    assert (dead["sequence"], dead["attempts"]) == (sequences[0], 1)
    assert dead["reason"]


@pytest.mark.parametrize("value", ["ack", "ACK", " ack "])
def test_ack_settles(api: Api, topic: str, endpoint: Endpoint, value: str) -> None:
    endpoint.script = always(verdict(value))
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(2)]

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    assert endpoint.sequences == sequences


@pytest.mark.parametrize("value", ["maybe", "acknowledge", "0", "retry, ack", "x" * 5000])
def test_unknown_verdict_is_never_taken_for_an_ack(
    api: Api, topic: str, endpoint: Endpoint, value: str
) -> None:
    endpoint.script = by_attempt(verdict(value), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    (failed,) = api.attempts(topic, sequence)
    assert "verdict" in failed["error"]


def test_later_that_is_not_allowed_is_a_failed_attempt(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = by_attempt(verdict("later"), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    (failed,) = api.attempts(topic, sequence)
    assert "later" in failed["error"]
    assert "webhook-ack-url" not in endpoint.requests[0].headers


@pytest.mark.parametrize("value", ["ack", "dead-letter", "later"])
@pytest.mark.parametrize("status", [302, 404, 500])
def test_verdict_counts_only_with_a_2xx(
    api: Api, topic: str, endpoint: Endpoint, value: str, status: int
) -> None:
    endpoint.script = by_attempt(verdict(value, status=status), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    assert api.ok_status(topic)["dead_letters"] == 0


@pytest.mark.parametrize("value", ["retry", "dead-letter"])
def test_verdict_of_a_batch_counts_for_all_of_it(
    api: Api, topic: str, endpoint: Endpoint, value: str
) -> None:
    endpoint.script = by_attempt(verdict(value), OK)
    events = [event(id=str(n), partitionkey=f"k{n}") for n in range(5)]
    told = good(api.publish_batch(topic, events))["messages"]
    sequences = [each["sequence"] for each in told]
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning", retry=INSTANT_RETRY)

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    dead = [each["sequence"] for each in api.dead_letters(topic)]
    if value == "retry":
        assert (sorted(endpoint.sequences), dead) == (sorted(sequences * 2), [])
    else:
        assert (sorted(endpoint.sequences), dead) == (sequences, sequences)


def test_batch_position_to_retry_takes_later_ones_of_its_key_along(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    def single_out_first_of_a(request: Received) -> Answer:
        keys = [each["partitionkey"] for each in request.events]
        body = json.dumps({"retry": [keys.index("a")]}).encode()
        return Answer(200, body=body if request.attempt == 1 else b"")

    endpoint.script = single_out_first_of_a
    keys = ["a", "b", "a", "b"]
    events = [event(id=str(n), partitionkey=key) for n, key in enumerate(keys)]
    told = good(api.publish_batch(topic, events))["messages"]
    a0, b0, a1, b1 = [each["sequence"] for each in told]
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning", retry=INSTANT_RETRY)

    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.sequences) >= 6)

    assert set(endpoint.requests[0].sequences) == {a0, b0, a1, b1}
    assert endpoint.sequences[4:] == [a0, a1]
    assert [each["attempt"] for each in api.attempts(topic, a0)] == [1]


def test_batch_position_for_the_dead_letters_lets_its_key_go_on(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = by_attempt(Answer(200, body=b'{"dead_letter": [1]}'), OK)
    events = [event(id=str(n), partitionkey="k") for n in range(3)]
    told = good(api.publish_batch(topic, events))["messages"]
    sequences = [each["sequence"] for each in told]
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning", retry=INSTANT_RETRY)

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert endpoint.requests[0].sequences == sequences
    assert [each["sequence"] for each in api.dead_letters(topic)] == [sequences[1]]
    assert endpoint.first_deliveries == sequences


def test_verdicts_survive_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: (
        verdict("retry", {"Retry-After": "3600"}) if request.key == "r" else verdict("dead-letter")
    )
    restartable.api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    waits = restartable.api.ok_publish(topic, 1, key="r")
    dead = restartable.api.ok_publish(topic, 1, key="d")
    eventually(lambda: len(restartable.api.dead_letters(topic)) == 1)
    before = eventually(lambda: restartable.api.deliveries(topic, "retrying"))

    restartable.kill()
    restartable.start()

    assert restartable.api.deliveries(topic, "retrying") == before
    assert [each["sequence"] for each in before] == [waits]
    assert [each["sequence"] for each in restartable.api.dead_letters(topic)] == [dead]
    assert sorted(endpoint.sequences) == [waits, dead]
