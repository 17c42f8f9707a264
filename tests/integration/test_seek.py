"""Seek: a subscription is moved back or forth in its topic's log."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, verdict
from support.eventually import eventually
from support.problem import read_problem
from support.witness import Witness

OK = Answer(200)


def deliver(api: Api, topic: str, endpoint: Endpoint, count: int = 5, **fields: Any) -> list[int]:
    """Have so many messages of the key `k` delivered; give their sequences."""
    api.ok_subscribe(topic, endpoint.url, **fields)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(count)]
    eventually(lambda: len(endpoint.requests) == count and api.backlog(topic) == 0)
    return sequences


def replayed(requests: list[Received]) -> list[int]:
    """Give the sequences of the requests that say they are a replay."""
    return [each.sequence for each in requests if each.headers.get("webhook-replay") == "true"]


def test_seek_to_the_beginning_delivers_everything_again(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    sequences = deliver(api, topic, endpoint)

    assert api.seek(topic, "beginning") == 5

    eventually(lambda: len(endpoint.requests) == 10 and api.backlog(topic) == 0)
    assert endpoint.sequences == sequences * 2
    assert replayed(endpoint.requests[:5]) == []
    assert replayed(endpoint.requests[5:]) == sequences
    assert {request.attempt for request in endpoint.requests} == {1}
    ids = [request.webhook_id for request in endpoint.requests]
    assert ids[:5] == ids[5:]


def test_what_comes_after_a_seek_is_no_replay(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = deliver(api, topic, endpoint, 2)
    api.pause(topic)
    api.seek(topic, "beginning")
    fresh = api.ok_publish(topic, "fresh", key="k")

    api.resume(topic)
    eventually(lambda: len(endpoint.requests) == 5)

    assert endpoint.sequences[2:] == [*sequences, fresh]
    assert replayed(endpoint.requests) == sequences


def test_seek_to_a_sequence_delivers_it_and_what_follows(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    sequences = deliver(api, topic, endpoint)

    assert api.seek(topic, sequences[3]) == 2

    eventually(lambda: len(endpoint.requests) == 7 and api.backlog(topic) == 0)
    assert endpoint.sequences[5:] == sequences[3:]


def test_seek_to_a_time_delivers_what_was_stored_since(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    deliver(api, topic, endpoint, 3)
    moment = datetime.now(UTC)
    later = [api.ok_publish(topic, n, key="k") for n in range(2)]
    eventually(lambda: len(endpoint.requests) == 5 and api.backlog(topic) == 0)

    assert api.seek(topic, moment.isoformat()) == 2

    eventually(lambda: len(endpoint.requests) == 7 and api.backlog(topic) == 0)
    assert endpoint.sequences[5:] == later


@pytest.mark.parametrize(
    ("to", "count"),
    [
        (0, 5),
        ("1970-01-01T00:00:00Z", 5),
        ("2024-01-01T01:00:00+01:00", 5),
        ("9999-12-31T23:59:59Z", 0),
    ],
)
def test_seek_beyond_an_end_of_the_log_goes_to_that_end(
    api: Api, topic: str, endpoint: Endpoint, to: Any, count: int
) -> None:
    sequences = deliver(api, topic, endpoint)

    assert api.seek(topic, to) == count
    last = api.ok_publish(topic, "last", key="k")

    eventually(lambda: api.backlog(topic) == 0 and last in endpoint.sequences)
    assert endpoint.sequences[5:] == [*sequences[5 - count :], last]


def test_seek_past_the_end_skips_nothing_that_comes_later(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    deliver(api, topic, endpoint, 2)

    assert api.seek(topic, 10**9) == 0
    last = api.ok_publish(topic, "last", key="k")

    eventually(lambda: last in endpoint.sequences)


def test_seek_to_now_skips_what_is_owed(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.pause(topic)
    for n in range(5):
        api.ok_publish(topic, n, key="k")

    assert api.seek(topic, "now") == 0
    assert api.backlog(topic) == 0
    api.resume(topic)
    last = api.ok_publish(topic, "last", key="k")

    eventually(lambda: api.backlog(topic) == 0 and endpoint.requests)
    assert endpoint.sequences == [last]


@pytest.mark.parametrize("to", ["beginning", "now", 3])
def test_dry_run_changes_nothing(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness, to: Any
) -> None:
    sequences = deliver(api, topic, endpoint)
    api.pause(topic)
    owed = api.ok_publish(topic, "owed", key="k")

    told = api.seek(topic, to, dry_run=True)

    assert api.backlog(topic) == 1
    if isinstance(to, int):
        assert told == len([each for each in [*sequences, owed] if each >= to])
    else:
        assert told == (6 if to == "beginning" else 0)
    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    witness.let_pass(api)
    assert endpoint.sequences == [*sequences, owed]


def test_seek_of_an_empty_topic_is_fine(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)

    for to in ("beginning", "now", 1, "2024-01-01T00:00:00Z"):
        assert api.seek(topic, to) == 0
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: endpoint.sequences == [sequence])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "to"),
        ({"to": None}, "to"),
        ({"to": "tomorrow"}, "to"),
        ({"to": ""}, "to"),
        ({"to": "2024-13-01T00:00:00Z"}, "to"),
        ({"to": -1}, "to"),
        ({"to": 1.5}, "to"),
        ({"to": True}, "to"),
        ({"to": "5"}, "to"),
        ({"to": [1]}, "to"),
        ({"to": {}}, "to"),
        ({"to": 10**30}, "to"),
        ({"to": "now", "dry_run": "yes"}, "dry_run"),
        ({"to": "now", "dry_run": 1}, "dry_run"),
        ({"to": "now", "colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_wrong_seek_is_refused_and_changes_nothing(
    api: Api, topic: str, endpoint: Endpoint, body: dict[str, Any], field: str
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.pause(topic)
    api.ok_publish(topic, 1)

    problem = read_problem(api.act(topic, "seek", body=body), 422)

    assert problem.names(field), problem.fields
    assert api.backlog(topic) == 1


# -- what is out


class Hold:
    """A script that answers the first request when told, and all others at once."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.release = threading.Event()
        self.first = True

    def __call__(self, _request: Received) -> Answer:
        if self.first:
            self.first = False
            self.release.wait(20)
            return self.answer
        return OK


@pytest.mark.parametrize(
    "answer", [OK, Answer(422), Answer(500), verdict("dead-letter")], ids=lambda a: str(a.status)
)
def test_outcome_of_what_was_out_is_ignored(
    api: Api, topic: str, endpoint: Endpoint, answer: Answer
) -> None:
    endpoint.script = hold = Hold(answer)
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    sequence = api.ok_publish(topic, 1, key="k")
    eventually(lambda: endpoint.requests)

    assert api.seek(topic, "beginning") == 1
    hold.release.set()

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)
    assert endpoint.sequences == [sequence, sequence]
    shown = api.ok_status(topic)
    assert (shown["dead_letters"], shown["retrying"]) == (0, 0)
    assert replayed(endpoint.requests[1:]) == [sequence]


@pytest.mark.parametrize("answer", [Answer(422), Answer(500)], ids=lambda a: str(a.status))
def test_outcome_of_what_was_skipped_is_ignored(
    api: Api, topic: str, endpoint: Endpoint, answer: Answer
) -> None:
    endpoint.script = hold = Hold(answer)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    api.ok_publish(topic, 1, key="k")
    eventually(lambda: endpoint.requests)

    assert api.seek(topic, "now") == 0
    assert api.backlog(topic) == 0
    hold.release.set()
    last = api.ok_publish(topic, "last", key="k")
    eventually(lambda: last in endpoint.sequences and api.backlog(topic) == 0)

    assert len(endpoint.requests) == 2
    shown = api.ok_status(topic)
    assert (shown["dead_letters"], shown["retrying"]) == (0, 0)


def test_410_of_what_was_out_still_pauses_or_is_delivered_again(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = hold = Hold(Answer(410))
    api.ok_subscribe(topic, endpoint.url)
    sequence = api.ok_publish(topic, 1, key="k")
    eventually(lambda: endpoint.requests)

    api.seek(topic, "beginning")
    hold.release.set()

    # Whichever of the two: the message is not lost.
    eventually(lambda: api.ok_status(topic)["state"] == "paused" or len(endpoint.requests) == 2)
    api.resume(topic)
    eventually(lambda: endpoint.sequences == [sequence] * 2 and api.backlog(topic) == 0)


def test_key_with_an_attempt_out_waits_for_its_end(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = hold = Hold(OK)
    api.ok_subscribe(topic, endpoint.url)
    held = api.ok_publish(topic, 0, key="k")
    eventually(lambda: endpoint.requests)
    behind = api.ok_publish(topic, 1, key="k")
    free = api.ok_publish(topic, 2, key="other")
    eventually(lambda: free in endpoint.sequences)

    assert api.seek(topic, "beginning") == 3
    eventually(lambda: endpoint.sequences.count(free) == 2)
    witness.let_pass(api)
    assert endpoint.sequences.count(held) == 1
    assert behind not in endpoint.sequences

    hold.release.set()
    eventually(lambda: api.backlog(topic) == 0)
    assert [each for each in endpoint.sequences if each != free] == [held, held, behind]


def test_topic_order_is_kept_over_a_seek(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = hold = Hold(OK)
    api.ok_subscribe(topic, endpoint.url, ordering="topic")
    sequences = [api.ok_publish(topic, n, key=f"k{n}") for n in range(3)]
    eventually(lambda: endpoint.requests)

    assert api.seek(topic, sequences[1]) == 2
    witness.let_pass(api)
    assert endpoint.sequences == sequences[:1]

    hold.release.set()
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == sequences


# -- rows


def test_waiting_retries_begin_anew(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404))
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: api.deliveries(topic, "retrying"))
    endpoint.script = always(OK)

    assert api.seek(topic, "beginning") == 3

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [sequences[0], *sequences]
    assert endpoint.requests[1].attempt == 1
    assert api.deliveries(topic, "retrying") == []


def test_waiting_retries_are_skipped_by_a_seek_to_now(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(404 if request.key == "bad" else 200)
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    for n in range(3):
        api.ok_publish(topic, n, key="bad")
    eventually(lambda: api.deliveries(topic, "retrying"))

    assert api.seek(topic, "now") == 0

    shown = api.ok_status(topic)
    assert (shown["backlog"], shown["retrying"], shown["dead_letters"]) == (0, 0, 0)
    endpoint.script = always(OK)
    last = api.ok_publish(topic, "last", key="bad")
    eventually(lambda: endpoint.sequences[1:] == [last])


def test_block_ends_with_a_seek(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url, when_exhausted="block")
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: api.ok_status(topic)["blocked_keys"] == 1)
    endpoint.script = always(OK)

    api.seek(topic, sequences[1])

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == sequences
    assert api.ok_status(topic)["blocked_keys"] == 0


def test_dead_letters_at_or_above_the_new_position_are_dropped(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(4)]
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 4)
    endpoint.script = always(OK)

    assert api.seek(topic, sequences[2]) == 2

    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.requests) == 6)
    assert [each["sequence"] for each in api.dead_letters(topic)] == sequences[:2]
    assert endpoint.sequences[4:] == sequences[2:]


def test_dead_letters_below_the_new_position_stay_dead(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = lambda request: Answer(422 if request.body == b"0" else 200)
    api.ok_subscribe(topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: len(endpoint.requests) == 3 and api.backlog(topic) == 0)
    endpoint.script = always(OK)

    assert api.seek(topic, "now") == 0
    witness.let_pass(api)
    assert [each["sequence"] for each in api.dead_letters(topic)] == sequences[:1]
    assert api.replay(topic) == 1

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences, sequences[0]]


# -- kinds of subscriptions


def test_batches_of_a_replay_say_so(api: Api, topic: str, endpoint: Endpoint) -> None:
    told = good(api.publish_batch(topic, [event(id=str(n)) for n in range(20)]))["messages"]
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning")
    eventually(lambda: api.backlog(topic) == 0 and endpoint.requests)
    before = len(endpoint.requests)

    api.seek(topic, "beginning")
    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.sequences) == 40)

    again = endpoint.requests[before:]
    assert {request.headers.get("webhook-replay") for request in again} == {"true"}
    sequences = [sequence for request in again for sequence in request.sequences]
    assert sorted(sequences) == [each["sequence"] for each in told]


def test_subscription_without_endpoint_can_seek(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.put_subscription(topic, "s")
    sequences = [api.ok_publish(topic, n) for n in range(3)]

    assert api.seek(topic, "now") == 0
    assert api.backlog(topic) == 0
    assert api.seek(topic, sequences[1]) == 2
    assert api.backlog(topic) == 2


def test_seek_of_one_subscription_moves_no_other(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    with Endpoint() as other:
        api.ok_subscribe(topic, other.url, "other")
        deliver(api, topic, endpoint)
        eventually(lambda: len(other.requests) == 5)

        api.seek(topic, "beginning")
        eventually(lambda: len(endpoint.requests) == 10)
        witness.let_pass(api)

        assert len(other.requests) == 5


# -- under load and over restarts


@pytest.mark.parametrize("ordering", ["key", "topic", "none"])
def test_seeks_under_load_lose_nothing(
    api: Api, topic: str, endpoint: Endpoint, ordering: str
) -> None:
    endpoint.script = lambda request: Answer(404 if request.sequence % 7 == 0 else 200)
    retry = {**INSTANT_RETRY, "max_attempts": 0}
    api.ok_subscribe(topic, endpoint.url, ordering=ordering, max_in_flight=4, retry=retry)
    events = [event(id=str(n), partitionkey=f"k{n % 8}") for n in range(150)]
    told = good(api.publish_batch(topic, events))["messages"]
    sequences = [each["sequence"] for each in told]

    sent = 0
    for _ in range(4):
        eventually(lambda sent=sent: len(endpoint.requests) > sent)
        sent = len(endpoint.requests)
        api.seek(topic, "beginning")
    endpoint.script = always(OK)
    eventually(lambda: api.backlog(topic) == 0, within_s=30)

    assert set(endpoint.sequences[sent:]) == set(sequences)
    if ordering == "key":
        for key in range(8):
            firsts = [each for each in endpoint.first_deliveries if each in sequences[key::8]]
            assert firsts == sequences[key::8]


def test_seek_survives_a_kill(restartable: BrokerProcess, topic: str, endpoint: Endpoint) -> None:
    sequences = deliver(restartable.api, topic, endpoint)
    restartable.api.pause(topic)
    assert restartable.api.seek(topic, sequences[1]) == 4

    restartable.kill()
    restartable.start()
    assert restartable.api.backlog(topic) == 4
    fresh = restartable.api.ok_publish(topic, "fresh", key="k")
    restartable.api.resume(topic)
    eventually(lambda: restartable.api.backlog(topic) == 0)

    assert endpoint.sequences[5:] == [*sequences[1:], fresh]
    assert replayed(endpoint.requests[5:]) == sequences[1:]


def test_seek_to_now_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(404))
    restartable.api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    for n in range(3):
        restartable.api.ok_publish(topic, n, key="k")
    eventually(lambda: restartable.api.deliveries(topic, "retrying"))
    assert restartable.api.seek(topic, "now") == 0
    endpoint.script = always(OK)

    restartable.kill()
    restartable.start()
    last = restartable.api.ok_publish(topic, "last", key="k")
    eventually(lambda: endpoint.sequences[1:] == [last])

    eventually(lambda: restartable.api.backlog(topic) == 0)


def test_kill_amid_a_replay_delivers_all_of_it(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    api = restartable.api
    api.ok_subscribe(topic, endpoint.url, max_in_flight=4)
    events = [event(id=str(n), partitionkey=f"k{n % 5}") for n in range(100)]
    told = good(api.publish_batch(topic, events))["messages"]
    sequences = [each["sequence"] for each in told]
    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.requests) == 100)
    endpoint.script = always(Answer(200, delay_s=0.01))

    api.seek(topic, "beginning")
    eventually(lambda: len(endpoint.requests) >= 130)
    restartable.kill()
    restartable.start()
    eventually(lambda: restartable.api.backlog(topic) == 0)

    again = endpoint.requests[100:]
    assert {each.sequence for each in again} == set(sequences)
    assert replayed(again) == [each.sequence for each in again]
    for key in range(5):
        firsts = dict.fromkeys(each.sequence for each in again if each.key == f"k{key}")
        assert list(firsts) == sequences[key::5]
