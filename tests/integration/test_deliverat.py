"""`deliverat`: a message joins the log, and its key's order, when it is due."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import BATCH, event
from support.endpoint import Endpoint, Received
from support.eventually import eventually
from support.moments import ahead, has_come
from support.witness import Witness

FAR = 3600.0


def schedule(api: Api, topic: str, seconds: float, **attributes: Any) -> str:
    """Publish an event that is due so many seconds from now; give that moment."""
    moment = ahead(seconds)
    told = good(api.publish_event(topic, event(deliverat=moment, **attributes)))
    assert (told["sequence"], told["duplicate"]) == (None, False)
    return moment


def log(api: Api, topic: str) -> list[str]:
    """The ids of the log, oldest first."""
    return [message["id"] for message in api.all_messages(topic)]


def delivered(endpoint: Endpoint) -> list[str]:
    """The ids of what has come, in the order in which it came."""
    return [each["id"] for request in endpoint.requests for each in request.events]


def test_delayed_message_has_no_sequence_until_it_is_due(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    api.ok_subscribe(topic, endpoint.url)

    answer = api.publish_event(topic, event(id="m", deliverat=ahead(FAR)))

    assert answer.status_code == 201
    told = answer.json()
    assert (told["id"], told["sequence"], told["duplicate"]) == ("m", None, False)
    witness.let_pass(api)
    assert log(api, topic) == []
    assert endpoint.requests == []
    assert api.backlog(topic) == 0


def test_delayed_message_is_delivered_when_it_is_due_and_not_before(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    came: list[datetime] = []
    answer = endpoint.script

    def note_time(request: Received) -> Any:
        came.append(datetime.now(UTC))
        return answer(request)

    endpoint.script = note_time
    api.ok_subscribe(topic, endpoint.url)
    moment = schedule(api, topic, 1, id="m", data={"a": 1}, partitionkey="k")

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert came[0] >= datetime.fromisoformat(moment)
    (message,) = api.all_messages(topic)
    assert (message["id"], message["data"]) == ("m", {"a": 1})
    assert message["sequence"] == endpoint.requests[0].sequence
    shown = endpoint.requests[0].events[0]["deliverat"]
    assert datetime.fromisoformat(shown) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("seconds", [-FAR, -1.0, 0.0])
def test_past_moment_is_immediate(api: Api, topic: str, endpoint: Endpoint, seconds: float) -> None:
    api.ok_subscribe(topic, endpoint.url)

    told = good(api.publish_event(topic, event(id="m", deliverat=ahead(seconds))))

    assert isinstance(told["sequence"], int)
    eventually(lambda: endpoint.sequences == [told["sequence"]])


@pytest.mark.parametrize(
    "moment", ["2001-01-01T00:00:00Z", "2001-01-01T00:00:00+05:30", "2001-01-01t00:00:00.123456z"]
)
def test_moment_may_have_an_offset_and_fractions(api: Api, topic: str, moment: str) -> None:
    assert api.ok_publish(topic, 1, deliverat=moment) > 0


def test_binary_mode_takes_it_from_its_header(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)

    told = good(api.publish(topic, {"a": 1}, deliverat=ahead(0.3)))
    assert told["sequence"] is None
    assert log(api, topic) == []

    eventually(lambda: endpoint.requests)
    assert delivered(endpoint) == [told["id"]]


def test_batch_may_mix_now_and_later(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    moment = ahead(0.5)
    events = [
        event(id="now-1"),
        event(id="later-1", deliverat=moment),
        event(id="now-2", deliverat=ahead(-1)),
        event(id="later-2", deliverat=moment),
    ]

    told = good(api.publish_batch(topic, events))["messages"]

    assert [each["id"] for each in told] == ["now-1", "later-1", "now-2", "later-2"]
    assert [each["sequence"] is None for each in told] == [False, True, False, True]
    eventually(lambda: len(endpoint.requests) == 4)
    assert log(api, topic) == ["now-1", "now-2", "later-1", "later-2"]


def test_refused_batch_schedules_nothing(api: Api, topic: str) -> None:
    api.put_topic(topic)
    events = [event(id="later", deliverat=ahead(FAR)), event(id="bad", deliverat="soon")]

    assert api.publish_batch(topic, events).status_code == 422

    assert api.scheduled(topic) == []


def test_messages_join_in_the_order_in_which_they_are_due(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    schedule(api, topic, 0.9, id="third", partitionkey="k")
    schedule(api, topic, 0.3, id="first", partitionkey="k")
    schedule(api, topic, 0.6, id="second", partitionkey="k")
    good(api.publish_event(topic, event(id="at once", partitionkey="k")))

    eventually(lambda: len(endpoint.requests) == 4)

    assert log(api, topic) == ["at once", "first", "second", "third"]
    assert delivered(endpoint) == log(api, topic)


def test_ties_join_in_publish_order(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    moment = ahead(0.8)
    ids = [str(n) for n in range(40)]
    for id in ids[:10]:
        good(api.publish_event(topic, event(id=id, deliverat=moment, partitionkey="k")))
    events = [event(id=id, deliverat=moment, partitionkey="k") for id in ids[10:]]
    good(api.publish_batch(topic, events))

    eventually(lambda: len(endpoint.requests) == 40)

    assert log(api, topic) == ids
    assert delivered(endpoint) == ids


def test_many_join_in_publish_order(api: Api, topic: str) -> None:
    moment = ahead(1)
    ids = [str(n) for n in range(1000)]
    answer = api.publish_batch(topic, [event(id=id, deliverat=moment) for id in ids])
    assert answer.status_code == 201

    eventually(lambda: len(log(api, topic)) == 1000)

    assert log(api, topic) == ids


def test_joined_message_waits_behind_its_key(api: Api, topic: str, endpoint: Endpoint) -> None:
    release = threading.Event()
    answer = endpoint.script

    def hold_first(request: Received) -> Any:
        if request.events[0]["id"] == "first":
            release.wait(20)
        return answer(request)

    endpoint.script = hold_first
    api.ok_subscribe(topic, endpoint.url)
    schedule(api, topic, 0.3, id="delayed", partitionkey="k")
    good(api.publish_event(topic, event(id="first", partitionkey="k")))
    eventually(lambda: log(api, topic) == ["first", "delayed"])
    free = api.ok_publish(topic, 1, key="other")
    eventually(lambda: free in endpoint.sequences)
    assert "delayed" not in delivered(endpoint)

    release.set()
    eventually(lambda: "delayed" in delivered(endpoint))


def test_subscription_of_the_meantime_gets_it(api: Api, topic: str, endpoint: Endpoint) -> None:
    moment = schedule(api, topic, 0.5, id="m")
    api.ok_subscribe(topic, endpoint.url)
    assert not has_come(moment)

    eventually(lambda: delivered(endpoint) == ["m"])


def test_topic_counts_what_waits(api: Api, topic: str) -> None:
    api.ok_publish(topic, "x" * 1000)
    before = good(api.get_topic(topic))

    good(api.publish_event(topic, event(id="m", deliverat=ahead(FAR), data="x" * 1000)))

    after = good(api.get_topic(topic))
    assert after["message_count"] == before["message_count"] + 1
    assert after["bytes"] >= before["bytes"] + 1000
    assert after["last_sequence"] == before["last_sequence"]


# -- identity


def test_repeat_while_it_waits_is_a_duplicate(api: Api, topic: str) -> None:
    given = event(id="m", deliverat=ahead(FAR), data=1)
    good(api.publish_event(topic, given))

    again = api.publish_event(topic, given)

    assert again.status_code in (200, 201)
    assert (again.json()["sequence"], again.json()["duplicate"]) == (None, True)
    assert len(api.scheduled(topic)) == 1


@pytest.mark.parametrize("changed", [{"data": 2}, {"type": "other"}, {"deliverat": "+1"}])
def test_same_identity_with_another_content_is_a_conflict(
    api: Api, topic: str, changed: dict[str, Any]
) -> None:
    given = event(id="m", deliverat=ahead(FAR), data=1)
    good(api.publish_event(topic, given))
    if changed == {"deliverat": "+1"}:
        changed = {"deliverat": ahead(FAR + 1)}

    answer = api.publish_event(topic, {**given, **changed})

    assert answer.status_code == 409
    assert answer.json()["code"] == "id_reused"
    assert len(api.scheduled(topic)) == 1


def test_repeat_after_it_joined_gives_its_sequence(api: Api, topic: str) -> None:
    given = event(id="m", deliverat=ahead(0.2), data=1)
    good(api.publish_event(topic, given))
    eventually(lambda: log(api, topic) == ["m"])

    again = good(api.publish_event(topic, given))

    (message,) = api.all_messages(topic)
    assert (again["sequence"], again["duplicate"]) == (message["sequence"], True)


def test_repeat_inside_a_batch_is_a_duplicate(api: Api, topic: str) -> None:
    given = event(id="m", deliverat=ahead(FAR))

    told = good(api.publish_batch(topic, [given, given]))["messages"]

    assert [each["duplicate"] for each in told] == [False, True]
    assert len(api.scheduled(topic)) == 1


def test_idempotency_key_makes_a_delayed_message_repeatable(api: Api, topic: str) -> None:
    moment = ahead(FAR)
    headers = {"Idempotency-Key": "order-1"}

    first = good(api.publish(topic, 1, headers=headers, deliverat=moment))
    again = good(api.publish(topic, 1, headers=headers, deliverat=moment))

    assert (first["id"], first["duplicate"]) == ("order-1", False)
    assert (again["id"], again["duplicate"]) == ("order-1", True)


def test_identity_of_what_waits_outlives_the_dedup_window(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=0.5)
    waiting, at_once = event(id="waits", deliverat=ahead(FAR)), event(id="at once")
    good(api.publish_event(topic, waiting))
    good(api.publish_event(topic, at_once))

    eventually(lambda: not good(api.publish_event(topic, at_once))["duplicate"])

    assert good(api.publish_event(topic, waiting))["duplicate"]
    assert len(api.scheduled(topic)) == 1


# -- restarts


@pytest.mark.parametrize("end", [BrokerProcess.kill, BrokerProcess.stop])
def test_delayed_message_survives_a_restart(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, end: Any
) -> None:
    restartable.api.ok_subscribe(topic, endpoint.url)
    far = event(id="far", deliverat=ahead(FAR))
    good(restartable.api.publish_event(topic, far))
    moment = schedule(restartable.api, topic, 2.5, id="m", data={"a": 1})

    end(restartable)
    restartable.start()

    assert good(restartable.api.publish_event(topic, far))["duplicate"]
    eventually(lambda: delivered(endpoint) == ["m"])
    assert has_come(moment)
    assert log(restartable.api, topic) == ["m"]


def test_what_was_due_while_nobody_ran_joins_at_the_start(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    restartable.api.ok_subscribe(topic, endpoint.url)
    schedule(restartable.api, topic, 0.4, id="b", partitionkey="k")
    moment = schedule(restartable.api, topic, 0.5, id="c", partitionkey="k")
    schedule(restartable.api, topic, 0.3, id="a", partitionkey="k")

    restartable.kill()
    eventually(lambda: has_come(moment))
    restartable.start()

    eventually(lambda: delivered(endpoint) == ["a", "b", "c"])


def test_kill_while_messages_join_loses_none_and_doubles_none(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    restartable.api.ok_subscribe(topic, endpoint.url)
    ids = [f"{n:03}" for n in range(300)]
    events = [event(id=id, deliverat=ahead(0.5 + n / 200)) for n, id in enumerate(ids)]
    good(restartable.api.publish_batch(topic, events))

    for wanted in (50, 150):
        eventually(lambda wanted=wanted: len(endpoint.first_deliveries) >= wanted)
        restartable.kill()
        restartable.start()
    eventually(lambda: len(endpoint.first_deliveries) >= 300)

    assert log(restartable.api, topic) == ids
    assert set(delivered(endpoint)) == set(ids)
    assert restartable.api.scheduled(topic) == []


def test_answer_to_a_batch_of_delayed_messages_means_they_are_on_disk(
    restartable: BrokerProcess, topic: str
) -> None:
    answered: list[str] = []

    def publish() -> None:
        with Api(restartable.base_url) as api:
            for part in range(10_000):
                id = str(part)
                body = [event(id=id, deliverat=ahead(FAR))]
                try:
                    good(api.publish_batch(topic, body, {"content-type": BATCH}))
                except Exception:
                    return
                answered.append(id)

    thread = threading.Thread(target=publish)
    thread.start()
    eventually(lambda: len(answered) >= 50)
    restartable.kill()
    thread.join()
    restartable.start()

    for id in answered:
        assert restartable.api.get_scheduled(topic, id, "/tests").status_code == 200
