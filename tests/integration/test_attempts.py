"""The log of failed attempts: time, status or error, milliseconds, the answer's first KiB."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess, free_port
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, always, by_attempt
from support.eventually import eventually
from support.problem import read_problem

OK = Answer(200)
KIB = 1024


def fail_once(api: Api, topic: str, endpoint: Endpoint, failure: Answer) -> int:
    """Have one message answered so, and give its sequence once the attempt is on record."""
    endpoint.script = always(failure)
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY, timeout_s=1)
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.attempts(topic, sequence))
    return sequence


def test_failed_attempt_is_told(api: Api, topic: str, endpoint: Endpoint) -> None:
    began = datetime.now(UTC)
    sequence = fail_once(api, topic, endpoint, Answer(500, body=b"out of paper", delay_s=0.2))

    (attempt,) = api.attempts(topic, sequence)

    assert attempt["attempt"] == 1
    assert attempt["status"] == 500
    assert "500" in attempt["error"]
    assert attempt["duration_ms"] >= 195
    assert attempt["answer"] == "out of paper"
    at = datetime.fromisoformat(attempt["at"])
    assert at.tzinfo is not None
    assert -0.01 < (at - began).total_seconds() < 60


def test_attempts_are_listed_oldest_first(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500, body=b"a"), Answer(404, body=b"b"), Answer(503), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.backlog(topic) == 0)

    attempts = api.attempts(topic, sequence)

    assert [(each["attempt"], each["status"], each["answer"]) for each in attempts] == [
        (1, 500, "a"),
        (2, 404, "b"),
        (3, 503, ""),
    ]
    assert [each["at"] for each in attempts] == sorted(each["at"] for each in attempts)


def test_message_that_was_taken_at_once_has_none(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert api.attempts(topic, sequence) == []


@pytest.mark.parametrize("sequence", ["999999", "0", "x", "-1"])
def test_unknown_message_is_not_found(
    api: Api, topic: str, endpoint: Endpoint, sequence: str
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, 1)

    problem = read_problem(api.look(topic, f"messages/{sequence}/attempts"), 404, 422)

    assert sequence != "999999" or problem.code == "message_not_found"


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (Answer(delay_s=3), r"time"),
        (Answer(hang_up=True), r"."),
        (Answer(raw=b"this is no HTTP\r\n\r\n"), r"."),
        (Answer(raw=b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n"), r"."),
    ],
    ids=["time-out", "hang-up", "no HTTP", "no status"],
)
def test_attempt_without_an_answer_tells_the_error(
    api: Api, topic: str, endpoint: Endpoint, failure: Answer, word: str
) -> None:
    sequence = fail_once(api, topic, endpoint, failure)

    (attempt,) = api.attempts(topic, sequence)

    assert attempt["status"] is None
    assert re.search(word, attempt["error"], re.IGNORECASE)
    assert attempt["answer"] == ""
    if failure.delay_s:
        assert attempt["duration_ms"] >= 950


def test_refused_connection_is_told(api: Api, topic: str) -> None:
    api.ok_subscribe(topic, f"http://127.0.0.1:{free_port()}/hook", retry=SLOW_RETRY)
    sequence = api.ok_publish(topic, 1)

    (attempt,) = eventually(lambda: api.attempts(topic, sequence))

    assert attempt["status"] is None
    assert re.search(r"refused|connect", attempt["error"], re.IGNORECASE)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"x" * 5000, "x" * KIB),
        (b"x" * KIB, "x" * KIB),
        ("é".encode() * 5000, "é" * (KIB // 2)),
        (b"\x00\x01<script>", "\x00\x01<script>"),
    ],
    ids=["long", "just 1 KiB", "two bytes a character", "control characters"],
)
def test_first_kib_of_the_answer_is_kept(
    api: Api, topic: str, endpoint: Endpoint, body: bytes, shown: str
) -> None:
    sequence = fail_once(api, topic, endpoint, Answer(500, body=body))

    assert api.attempts(topic, sequence)[0]["answer"] == shown


@pytest.mark.parametrize("body", [b"\xff\xfe\xfd", b"x" + "€".encode() * 1000])
def test_answer_that_is_no_text_or_is_cut_inside_a_character_is_shown_somehow(
    api: Api, topic: str, endpoint: Endpoint, body: bytes
) -> None:
    sequence = fail_once(api, topic, endpoint, Answer(500, body=body))

    answer = api.attempts(topic, sequence)[0]["answer"]

    assert answer
    assert len(answer) <= KIB


def test_last_twenty_are_kept(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404))
    api.ok_subscribe(topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 25})
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)

    assert [each["attempt"] for each in api.attempts(topic, sequence)] == [*range(6, 26)]


def test_attempts_of_a_replay_are_numbered_anew(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404))
    api.ok_subscribe(topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 2})
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)

    api.replay(topic)
    eventually(lambda: len(api.attempts(topic, sequence)) == 4)

    assert [each["attempt"] for each in api.attempts(topic, sequence)] == [1, 2, 1, 2]


def test_each_member_of_a_batch_has_its_attempts(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500, body=b"whole"), OK)
    told = good(api.publish_batch(topic, [event(id=str(n)) for n in range(3)]))["messages"]
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning", retry=INSTANT_RETRY)
    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.requests) >= 2)

    for each in told:
        (attempt,) = api.attempts(topic, each["sequence"])
        assert (attempt["status"], attempt["answer"]) == (500, "whole")


def test_each_subscription_has_its_own_attempts(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint(always(Answer(503))) as failing:
        api.ok_subscribe(topic, failing.url, "failing", retry=SLOW_RETRY)
        api.ok_subscribe(topic, endpoint.url, "fine")
        sequence = api.ok_publish(topic, 1)
        eventually(lambda: api.attempts(topic, sequence, "failing"))
        eventually(lambda: api.backlog(topic, "fine") == 0)

        assert api.attempts(topic, sequence, "fine") == []


def test_attempts_survive_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(404, body=b"what?"))
    retry = {"max_attempts": 3, "min_backoff_s": 0.01, "max_backoff_s": 0.02}
    restartable.api.ok_subscribe(topic, endpoint.url, retry=retry)
    sequence = restartable.api.ok_publish(topic, 1)
    eventually(lambda: restartable.api.ok_status(topic)["dead_letters"] == 1)
    before = restartable.api.attempts(topic, sequence)
    assert len(before) == 3

    restartable.kill()
    restartable.start()

    assert restartable.api.attempts(topic, sequence) == before
