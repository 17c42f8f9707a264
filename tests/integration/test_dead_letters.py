"""Dead letters: listed with their reason, shown whole, replayed, deleted."""

from __future__ import annotations

import base64
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, receipt
from support.eventually import eventually
from support.problem import read_problem
from support.witness import Witness

OK = Answer(200)


def dead(api: Api, topic: str) -> list[int]:
    """Give the sequences of the dead letters."""
    return [each["sequence"] for each in api.dead_letters(topic)]


def bury(api: Api, topic: str, endpoint: Endpoint, *keys: str | None) -> list[int]:
    """Have one message of each of these keys refused for good; give their sequences."""
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url)
    sequences = [api.ok_publish(topic, {"n": n}, key=key) for n, key in enumerate(keys)]
    eventually(lambda: dead(api, topic) == sequences)
    endpoint.script = always(OK)
    return sequences


# -- looking


def test_there_are_none_at_first(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)

    assert good(api.look(topic, "dead-letters")) == {"dead_letters": [], "next": None}


def test_dead_letter_tells_why_and_shows_the_whole_message(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    began = datetime.now(UTC)
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url)
    given = event(id="m-1", subject="é", partitionkey="k", extra="x", data={"a": [1, None]})
    sequence = good(api.publish_event(topic, given))["sequence"]

    (entry,) = eventually(lambda: api.dead_letters(topic))

    assert entry["sequence"] == sequence
    assert "422" in entry["reason"]
    assert entry["attempts"] == 1
    assert entry["message"] == api.get_message(topic, sequence).json()
    assert entry["message"].items() >= {**given, "sequence": sequence}.items()
    dead_at = datetime.fromisoformat(entry["dead_at"])
    assert dead_at.tzinfo is not None
    assert (dead_at - began).total_seconds() > -0.01
    shown = api.ok_status(topic)
    assert (shown["dead_letters"], shown["backlog"]) == (1, 0)


def test_one_dead_letter_is_shown(api: Api, topic: str, endpoint: Endpoint) -> None:
    first, second = bury(api, topic, endpoint, "a", "b")

    one = good(api.look(topic, f"dead-letters/{second}"))

    assert one.items() >= api.dead_letters(topic)[1].items()
    assert first != second


def test_bytes_of_a_dead_letter_are_kept(api: Api, topic: str, endpoint: Endpoint) -> None:
    body = bytes(range(256))
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url)
    good(api.post(topic, body, {"content-type": "application/octet-stream"}))
    (entry,) = eventually(lambda: api.dead_letters(topic))
    assert base64.b64decode(entry["message"]["data_base64"]) == body

    endpoint.script = always(OK)
    assert api.replay(topic) == 1
    eventually(lambda: len(endpoint.requests) == 2)

    assert endpoint.requests[1].body == body


@pytest.mark.parametrize("sequence", ["1", "999999", "0", "-1", "x", "99999999999999999999999"])
def test_unknown_dead_letter_is_not_found(
    api: Api, topic: str, endpoint: Endpoint, sequence: str
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, 1)
    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    read_problem(api.look(topic, f"dead-letters/{sequence}"), 404, 422)
    read_problem(api.drop_dead_letter(topic, sequence), 404, 422)


def test_dead_letters_are_paged_by_sequence(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = bury(api, topic, endpoint, *"abcdefg")

    found: list[int] = []
    after: int | None = 0
    while after is not None:
        page = good(api.look(topic, "dead-letters", params={"after": after, "limit": 3}))
        assert len(page["dead_letters"]) <= 3
        found += [each["sequence"] for each in page["dead_letters"]]
        after = page["next"]

    assert found == sequences


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": "x"}, {"after": -1}, {"after": "x"}])
def test_wrong_page_is_refused(
    api: Api, topic: str, endpoint: Endpoint, params: dict[str, Any]
) -> None:
    api.ok_subscribe(topic, endpoint.url)

    read_problem(api.look(topic, "dead-letters", params=params), 400, 422)


def test_attempts_that_ran_out_are_counted(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404))
    api.ok_subscribe(topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 3})
    api.ok_publish(topic, 1)

    (entry,) = eventually(lambda: api.dead_letters(topic))

    assert (entry["attempts"], len(endpoint.requests)) == (3, 3)
    assert "404" in entry["reason"]


def test_each_subscription_has_its_own(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = bury(api, topic, endpoint, "a")
    api.ok_subscribe(topic, endpoint.url, "other", start="beginning")
    eventually(lambda: len(endpoint.requests) == 2)

    assert api.dead_letters(topic, "other") == []
    assert dead(api, topic) == sequences


def test_dead_letters_go_with_their_subscription(api: Api, topic: str, endpoint: Endpoint) -> None:
    bury(api, topic, endpoint, "a")

    api.delete_subscription(topic, "s")
    api.ok_subscribe(topic, endpoint.url)

    assert dead(api, topic) == []


# -- replaying


def test_replay_is_attempt_one_and_says_so(api: Api, topic: str, endpoint: Endpoint) -> None:
    (sequence,) = bury(api, topic, endpoint, "k")

    assert api.replay(topic, sequence) == 1

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)
    first, again = endpoint.requests
    assert (again.sequence, again.attempt) == (sequence, 1)
    assert again.headers["webhook-replay"] == "true"
    assert "webhook-replay" not in first.headers
    assert again.webhook_id == first.webhook_id
    assert again.body == first.body
    assert dead(api, topic) == []
    assert api.ok_status(topic)["dead_letters"] == 0


def test_only_the_named_ones_are_replayed(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = bury(api, topic, endpoint, *"abcd")

    assert api.replay(topic, sequences[1], sequences[3]) == 2

    eventually(lambda: len(endpoint.requests) == 6 and api.backlog(topic) == 0)
    assert dead(api, topic) == [sequences[0], sequences[2]]
    assert sorted(endpoint.sequences[4:]) == [sequences[1], sequences[3]]


def test_sequences_that_are_not_dead_are_not_counted(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    (sequence,) = bury(api, topic, endpoint, "a")
    settled = api.ok_publish(topic, 1)
    eventually(lambda: settled in endpoint.sequences and api.backlog(topic) == 0)

    assert api.replay(topic, sequence, sequence, settled, 10**6) == 1
    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.requests) == 3)
    assert api.replay(topic, sequence) == 0
    assert endpoint.sequences == [sequence, settled, sequence]


def test_replay_of_all_may_find_none(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)

    assert api.replay(topic) == 0


def test_all_are_replayed_in_order_of_sequence(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = bury(api, topic, endpoint, *["k"] * 10)

    assert api.replay(topic) == 10

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == sequences * 2


@pytest.mark.parametrize("ordering", ["key", "topic"])
def test_replayed_ones_come_ahead_of_what_is_not_yet_sent(
    api: Api, topic: str, endpoint: Endpoint, ordering: str
) -> None:
    endpoint.script = lambda request: Answer(422 if request.body in (b"0", b"2") else 200)
    api.ok_subscribe(topic, endpoint.url, ordering=ordering)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(4)]
    eventually(lambda: len(endpoint.requests) == 4 and api.backlog(topic) == 0)
    endpoint.script = always(OK)
    api.pause(topic)
    later = [api.ok_publish(topic, n, key="k") for n in range(4, 6)]

    assert api.replay(topic) == 2
    assert api.backlog(topic) == 4
    api.resume(topic)

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences[4:] == [sequences[0], sequences[2], *later]


def test_replayed_one_waits_for_the_end_of_what_is_out_of_its_key(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    release = threading.Event()

    def hold(request: Received) -> Answer:
        if request.body == b'"held"':
            release.wait(20)
        return OK

    (sequence,) = bury(api, topic, endpoint, "k")
    endpoint.script = hold
    held = api.ok_publish(topic, "held", key="k")
    eventually(lambda: held in endpoint.sequences)
    behind = [api.ok_publish(topic, n, key="k") for n in range(2)]

    assert api.replay(topic) == 1
    witness.let_pass(api)
    assert endpoint.sequences == [sequence, held]

    release.set()
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [sequence, held, sequence, *behind]


def test_replayed_one_holds_its_key_while_it_fails(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    (sequence,) = bury(api, topic, endpoint, "k")
    api.put_subscription(topic, "s", retry=SLOW_RETRY)
    endpoint.script = lambda request: Answer(500 if request.sequence == sequence else 200)

    api.replay(topic)
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)
    behind = api.ok_publish(topic, 1, key="k")
    free = api.ok_publish(topic, 1, key="other")
    eventually(lambda: free in endpoint.sequences and api.backlog(topic) == 2)

    assert behind not in endpoint.sequences


def test_replay_that_fails_is_a_dead_letter_again(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404))
    api.ok_subscribe(topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 2})
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: dead(api, topic) == [sequence])

    assert api.replay(topic) == 1
    eventually(lambda: len(endpoint.requests) == 4 and dead(api, topic) == [sequence])

    assert [request.attempt for request in endpoint.requests] == [1, 2, 1, 2]
    assert api.dead_letters(topic)[0]["attempts"] == 2
    replayed = [request.headers.get("webhook-replay") for request in endpoint.requests]
    assert replayed == [None, None, "true", "true"]


def test_replay_needs_a_receipt_too(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url, guarantee="exactly-once", retry=INSTANT_RETRY)
    api.ok_publish(topic, 1)
    eventually(lambda: dead(api, topic))
    endpoint.script = lambda request: receipt() if request.attempt == 2 else OK

    api.replay(topic)
    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.requests) == 3)

    assert [request.attempt for request in endpoint.requests] == [1, 1, 2]


def test_members_of_a_batch_are_replayed(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(422))
    events = [event(id=str(n), partitionkey=f"k{n}") for n in range(5)]
    told = good(api.publish_batch(topic, events))["messages"]
    sequences = [each["sequence"] for each in told]
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning")
    eventually(lambda: dead(api, topic) == sequences)

    endpoint.script = always(OK)
    assert api.replay(topic, *sequences[1:4]) == 3
    eventually(lambda: api.backlog(topic) == 0)

    assert sorted(endpoint.sequences[5:]) == sequences[1:4]
    first, *others = endpoint.requests
    assert "webhook-replay" not in first.headers
    assert {request.headers.get("webhook-replay") for request in others} == {"true"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"all": "yes"},
        {"sequences": []},
        {"sequences": "1"},
        {"sequences": 1},
        {"sequences": ["1"]},
        {"sequences": [-1]},
        {"sequences": [1.5]},
        {"sequences": [True]},
        {"sequences": [None]},
        {"sequences": [1], "all": True},
        {"everything": True},
        {"all": True, "colour": "red"},
    ],
    ids=str,
)
def test_wrong_replay_is_refused_and_changes_nothing(
    api: Api, topic: str, endpoint: Endpoint, body: dict[str, Any]
) -> None:
    (sequence,) = bury(api, topic, endpoint, "a")

    problem = read_problem(api.act(topic, "dead-letters/replay", body=body), 422)

    assert problem.errors
    assert dead(api, topic) == [sequence]
    assert len(endpoint.requests) == 1


# -- deleting


def test_deleted_dead_letter_is_gone(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = bury(api, topic, endpoint, *"abc")

    assert api.drop_dead_letter(topic, sequences[1]).status_code == 204

    assert dead(api, topic) == [sequences[0], sequences[2]]
    assert api.ok_status(topic)["dead_letters"] == 2
    read_problem(api.drop_dead_letter(topic, sequences[1]), 404)
    read_problem(api.look(topic, f"dead-letters/{sequences[1]}"), 404)
    assert api.replay(topic) == 2
    eventually(lambda: api.backlog(topic) == 0)
    assert sequences[1] not in endpoint.sequences[3:]
    assert api.get_message(topic, sequences[1]).status_code == 200


def test_deleting_settles_nothing_that_is_owed(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)

    read_problem(api.drop_dead_letter(topic, sequence), 404)

    assert api.ok_status(topic)["retrying"] == 1


# -- restarts


def test_replay_and_deletion_survive_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    sequences = bury(restartable.api, topic, endpoint, *"kkkk")
    restartable.api.pause(topic)
    assert restartable.api.replay(topic, *sequences[:2]) == 2
    assert restartable.api.drop_dead_letter(topic, sequences[3]).status_code == 204

    restartable.kill()
    restartable.start()
    assert dead(restartable.api, topic) == [sequences[2]]
    assert restartable.api.backlog(topic) == 2
    restartable.api.resume(topic)
    eventually(lambda: restartable.api.backlog(topic) == 0)

    replayed = endpoint.requests[4:]
    assert [each.sequence for each in replayed] == sequences[:2]
    assert [each.attempt for each in replayed] == [1, 1]
    assert {each.headers.get("webhook-replay") for each in replayed} == {"true"}


def test_kill_amid_a_replay_loses_none_and_keeps_their_order(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    api = restartable.api
    api.ok_subscribe(topic, endpoint.url, max_in_flight=4)
    events = [event(id=str(n), partitionkey=f"k{n % 5}") for n in range(60)]
    told = good(api.publish_batch(topic, events))["messages"]
    sequences = [each["sequence"] for each in told]
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 60)
    endpoint.script = always(Answer(200, delay_s=0.01))

    assert api.replay(topic) == 60
    eventually(lambda: len(endpoint.requests) >= 80)
    restartable.kill()
    restartable.start()
    eventually(lambda: restartable.api.backlog(topic) == 0)

    replayed = list(dict.fromkeys(each.sequence for each in endpoint.requests[60:]))
    assert sorted(replayed) == sequences
    for key in range(5):
        assert [each for each in replayed if each in sequences[key::5]] == sequences[key::5]
    assert restartable.api.ok_status(topic)["dead_letters"] == 0
