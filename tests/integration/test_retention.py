"""Retention: what nobody is owed goes, what somebody is owed stays, until it is too old."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from support.api import SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.moments import ahead
from support.problem import read_problem

OK = Answer(200)
FIVE = {"max_messages": 5}
_serial = count(1)


@pytest.fixture
def swept(api: Api) -> Iterator[Any]:
    """Wait until retention has been applied once more.

    It is seen by a topic that owes nobody anything and was created last: what looks at all topics
    in turn has then looked at the others.
    """
    names: list[str] = []

    def wait() -> None:
        names.append(f"swept-{next(_serial)}")
        api.put_topic(names[-1], retention={"max_messages": 1})
        good(api.publish_batch(names[-1], [event(id=str(n)) for n in range(2)]))
        eventually(lambda: messages(api, names[-1]) == 1)

    yield wait
    for name in names:
        api.delete_topic(name)


def messages(api: Api, topic: str) -> int:
    """Count the messages a topic holds."""
    return int(good(api.get_topic(topic))["message_count"])


def looked_at(api: Api, topic: str) -> bool:
    """Say whether a topic holds no more than another limit allows.

    What could not be removed is looked at again after a while only, with another limit at once.
    """
    good(api.put_topic(topic, retention={"max_messages": 4, "max_bytes": 10**9 + next(_serial)}))
    return messages(api, topic) <= 4


def publish_many(api: Api, topic: str, count: int, **attributes: Any) -> list[int]:
    """Publish so many messages in one batch; give their sequences."""
    events = [event(id=f"m{n}", data=n, **attributes) for n in range(count)]
    return [each["sequence"] for each in good(api.publish_batch(topic, events))["messages"]]


# -- limits


def test_max_messages_keeps_the_newest(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_messages": 10})
    sequences = publish_many(api, topic, 50)

    eventually(lambda: messages(api, topic) == 10)

    shown = good(api.get_topic(topic))
    assert (shown["first_sequence"], shown["last_sequence"]) == (sequences[40], sequences[49])
    assert [each["sequence"] for each in api.all_messages(topic)] == sequences[40:]
    assert read_problem(api.get_message(topic, sequences[39]), 404).code == "message_not_found"
    assert api.get_message(topic, sequences[40]).status_code == 200


def test_max_bytes_keeps_the_newest(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_bytes": 10_000})
    for n in range(30):
        api.ok_publish(topic, "x" * 1000, id=str(n))

    eventually(lambda: good(api.get_topic(topic))["bytes"] <= 10_000)

    kept = [message["id"] for message in api.all_messages(topic)]
    assert 1 <= len(kept) <= 10
    assert kept == [str(n) for n in range(30 - len(kept), 30)]


def test_max_age_removes_everything_in_time(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_age_s": 1})
    sequences = publish_many(api, topic, 5)

    eventually(lambda: messages(api, topic) == 0)

    assert good(api.get_topic(topic))["bytes"] == 0
    assert good(api.browse(topic)) == {"messages": [], "next": None}
    assert api.ok_publish(topic, "next") > sequences[-1]


def test_topic_without_limits_keeps_everything(api: Api, topic: str, swept: Any) -> None:
    api.put_topic(topic, retention={"max_age_s": None, "max_bytes": None, "max_messages": None})
    publish_many(api, topic, 50)

    swept()

    assert messages(api, topic) == 50


def test_limit_that_comes_later_counts(api: Api, topic: str) -> None:
    publish_many(api, topic, 20)
    assert messages(api, topic) == 20

    api.put_topic(topic, retention=FIVE)

    eventually(lambda: messages(api, topic) == 5)


def test_many_messages_go_at_once(api: Api, topic: str) -> None:
    api.put_topic(topic, retention=FIVE)
    for _ in range(3):
        events = [event(id=f"many-{next(_serial)}", data="x" * 100) for _ in range(1000)]
        good(api.publish_batch(topic, events))

    eventually(lambda: messages(api, topic) == 5)


def test_subscription_from_the_beginning_gets_what_is_left(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.put_topic(topic, retention=FIVE)
    sequences = publish_many(api, topic, 20)
    eventually(lambda: messages(api, topic) == 5)

    api.ok_subscribe(topic, endpoint.url, start="beginning")
    eventually(lambda: len(endpoint.requests) == 5 and api.backlog(topic) == 0)

    assert sorted(endpoint.sequences) == sequences[15:]
    assert api.seek(topic, "beginning", dry_run=True) <= 5
    assert api.seek(topic, sequences[0], dry_run=True) <= 5


def test_scheduled_messages_are_not_past_anything(api: Api, topic: str, swept: Any) -> None:
    api.put_topic(topic, retention={"max_messages": 1, "max_age_s": 1})
    publish_many(api, topic, 3, deliverat=ahead(3600))

    swept()

    assert len(api.scheduled(topic)) == 3


# -- what is owed


def test_what_is_owed_is_kept_until_it_is_delivered(
    api: Api, topic: str, endpoint: Endpoint, swept: Any
) -> None:
    api.put_topic(topic, retention={**FIVE, "max_age_s": 1, "max_bytes": 1})
    api.ok_subscribe(topic, endpoint.url)
    api.pause(topic)
    sequences = publish_many(api, topic, 30)

    swept()
    assert messages(api, topic) == 30

    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    assert sorted(endpoint.sequences) == sequences
    eventually(lambda: looked_at(api, topic))


def test_what_one_of_two_subscriptions_is_owed_is_kept(
    api: Api, topic: str, endpoint: Endpoint, swept: Any
) -> None:
    api.put_topic(topic, retention=FIVE)
    api.ok_subscribe(topic, endpoint.url, "ahead")
    api.put_subscription(topic, "behind")
    publish_many(api, topic, 30)
    eventually(lambda: api.backlog(topic, "ahead") == 0)

    swept()

    assert messages(api, topic) == 30
    assert api.backlog(topic, "behind") == 30


def test_deleted_subscription_frees_what_it_was_owed(
    api: Api, topic: str, endpoint: Endpoint, swept: Any
) -> None:
    api.put_topic(topic, retention=FIVE)
    api.put_subscription(topic, "s")
    publish_many(api, topic, 30)
    swept()
    assert messages(api, topic) == 30

    api.delete_subscription(topic, "s")

    eventually(lambda: looked_at(api, topic))


def test_seek_frees_what_it_skips(api: Api, topic: str, endpoint: Endpoint, swept: Any) -> None:
    api.put_topic(topic, retention=FIVE)
    api.put_subscription(topic, "s")
    publish_many(api, topic, 30)
    swept()

    api.seek(topic, "now")

    eventually(lambda: looked_at(api, topic))


@pytest.mark.parametrize("when_exhausted", ["dead-letter", "block"])
def test_delivery_that_waits_is_owed(
    api: Api, topic: str, endpoint: Endpoint, swept: Any, when_exhausted: str
) -> None:
    endpoint.script = lambda request: Answer(404 if request.body == b"0" else 200)
    retry = SLOW_RETRY if when_exhausted == "dead-letter" else {"max_attempts": 1}
    api.put_topic(topic, retention=FIVE)
    api.ok_subscribe(topic, endpoint.url, when_exhausted=when_exhausted, retry=retry)
    sequences = publish_many(api, topic, 30)
    eventually(lambda: api.backlog(topic) == 1 and len(endpoint.requests) == 30)

    swept()
    assert api.get_message(topic, sequences[0]).status_code == 200
    endpoint.script = always(OK)
    assert api.act(topic, f"deliveries/{sequences[0]}/retry").is_success

    eventually(lambda: endpoint.sequences.count(sequences[0]) == 2)
    assert endpoint.requests[-1].body == b"0"
    eventually(lambda: looked_at(api, topic))


# -- dead letters


def test_dead_letter_keeps_its_message(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(422 if request.body == b"0" else 200)
    api = restartable.api
    api.put_topic(topic, retention=FIVE)
    api.ok_subscribe(topic, endpoint.url)
    sequences = publish_many(api, topic, 30, subject="é")
    eventually(lambda: len(endpoint.requests) == 30 and api.backlog(topic) == 0)
    before = api.dead_letters(topic)
    eventually(lambda: api.get_message(topic, sequences[0]).status_code == 404)
    eventually(lambda: messages(api, topic) <= 6)
    assert api.dead_letters(topic) == before
    assert before[0]["message"]["data"] == 0
    assert before[0]["message"]["subject"] == "é"

    restartable.kill()
    restartable.start()
    assert restartable.api.dead_letters(topic) == before
    endpoint.script = always(OK)
    assert restartable.api.replay(topic) == 1
    eventually(lambda: len(endpoint.requests) == 31 and restartable.api.backlog(topic) == 0)

    first = next(each for each in endpoint.requests if each.sequence == sequences[0])
    last = endpoint.requests[-1]
    assert (last.sequence, last.body) == (first.sequence, first.body)
    assert last.webhook_id == first.webhook_id


def test_dead_letters_go_after_their_own_retention(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url, dead_letter_retention_s=1)
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)

    eventually(lambda: api.ok_status(topic)["dead_letters"] == 0)

    assert api.dead_letters(topic) == []
    read_problem(api.look(topic, f"dead-letters/{sequence}"), 404)
    assert api.get_message(topic, sequence).status_code == 200


# -- a backlog that is too old


def test_owed_messages_that_are_too_old_become_dead_letters(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url, max_backlog_age_s=1)
    api.pause(topic)
    sequences = publish_many(api, topic, 5)
    assert api.backlog(topic) == 5

    eventually(lambda: api.backlog(topic) == 0)

    dead = api.dead_letters(topic)
    assert [each["sequence"] for each in dead] == sequences
    assert {(each["reason"], each["attempts"]) for each in dead} == {("too_old", 0)}
    api.resume(topic)
    good(api.put_subscription(topic, "s", max_backlog_age_s=None))
    assert api.replay(topic) == 5
    eventually(lambda: sorted(endpoint.sequences) == sequences)


@pytest.mark.parametrize("ordering", ["key", "topic"])
def test_messages_behind_one_that_is_too_old_go_on(
    api: Api, topic: str, endpoint: Endpoint, ordering: str
) -> None:
    endpoint.script = lambda request: Answer(404 if request.body == b"0" else 200)
    api.ok_subscribe(topic, endpoint.url, max_backlog_age_s=1, retry=SLOW_RETRY, ordering=ordering)
    first = api.ok_publish(topic, 0, key="k")
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)

    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)
    last = api.ok_publish(topic, 1, key="k")
    eventually(lambda: last in endpoint.sequences and api.backlog(topic) == 0)

    (dead,) = api.dead_letters(topic)
    assert (dead["sequence"], dead["attempts"]) == (first, 1)
    assert "too_old" in dead["reason"]
    assert endpoint.sequences == [first, last]


@pytest.mark.parametrize("ordering", ["key", "topic"])
def test_what_waits_behind_a_slow_endpoint_is_given_up_when_it_is_too_old(
    api: Api, topic: str, endpoint: Endpoint, ordering: str
) -> None:
    endpoint.script = lambda request: Answer(200, delay_s=0.1)
    api.ok_subscribe(topic, endpoint.url, max_backlog_age_s=1, ordering=ordering)

    sequences = publish_many(api, topic, 60, partitionkey="k")

    eventually(lambda: api.backlog(topic) == 0)
    dead = [each["sequence"] for each in api.dead_letters(topic)]
    assert len(dead) > 20, "at ten a second"
    assert sorted([*endpoint.sequences, *dead]) == sequences


def test_blocked_delivery_that_is_too_old_frees_its_key(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(422 if request.body == b"0" else 200)
    api.ok_subscribe(topic, endpoint.url, max_backlog_age_s=1, when_exhausted="block")
    first = api.ok_publish(topic, 0, key="k")

    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)
    last = api.ok_publish(topic, 1, key="k")
    eventually(lambda: api.backlog(topic) == 0 and last in endpoint.sequences)

    assert endpoint.sequences == [first, last]
    assert api.ok_status(topic)["blocked_keys"] == 0


def test_too_old_backlog_frees_the_topic(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.put_topic(topic, retention=FIVE)
    api.ok_subscribe(topic, endpoint.url, max_backlog_age_s=1, dead_letter_retention_s=1)
    api.pause(topic)
    publish_many(api, topic, 100)

    eventually(lambda: looked_at(api, topic))

    assert api.backlog(topic) <= 4


def test_backlog_may_be_kept_for_ever(api: Api, topic: str, endpoint: Endpoint, swept: Any) -> None:
    api.ok_subscribe(topic, endpoint.url)
    assert api.ok_status(topic)["max_backlog_age_s"] == 604800
    assert api.ok_status(topic)["dead_letter_retention_s"] == 2592000
    good(api.put_subscription(topic, "s", max_backlog_age_s=None))
    assert api.ok_status(topic)["max_backlog_age_s"] is None
    api.pause(topic)
    publish_many(api, topic, 3)

    swept()

    assert api.backlog(topic) == 3


@pytest.mark.parametrize("field", ["max_backlog_age_s", "dead_letter_retention_s"])
@pytest.mark.parametrize("value", [-1, 0, "x", True, []])
def test_wrong_age_is_refused(
    api: Api, topic: str, endpoint: Endpoint, field: str, value: Any
) -> None:
    answer = api.put_subscription(topic, "s", endpoint=endpoint.url, **{field: value})

    assert read_problem(answer, 422).names(field)


# -- restarts


def test_kill_amid_the_removal_loses_nothing_that_stays(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    api = restartable.api
    api.ok_subscribe(topic, endpoint.url)
    api.pause(topic)
    events = [event(id=str(n), data="x" * 200) for n in range(1000)]
    free = good(api.publish_batch(f"{topic}-free", events))["messages"]
    owed = publish_many(api, topic, 50)
    for name in (topic, f"{topic}-free"):
        api.put_topic(name, retention={"max_messages": 10})

    eventually(lambda: messages(api, f"{topic}-free") < 1000)
    restartable.kill()
    restartable.start()

    eventually(lambda: messages(restartable.api, f"{topic}-free") == 10)
    kept = [each["sequence"] for each in restartable.api.all_messages(f"{topic}-free")]
    assert kept == [each["sequence"] for each in free[-10:]]
    assert messages(restartable.api, topic) == 50
    restartable.api.resume(topic)
    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert sorted(endpoint.sequences) == owed
