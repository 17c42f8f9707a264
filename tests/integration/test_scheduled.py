"""`/v1/topics/{topic}/scheduled`: what waits for its time can be listed, shown and cancelled."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Endpoint
from support.eventually import eventually
from support.moments import ahead
from support.problem import read_problem

FAR = 3600.0


def test_nothing_waits_at_first(api: Api, topic: str) -> None:
    api.put_topic(topic)

    assert api.scheduled(topic) == []


def test_waiting_message_is_shown_whole(api: Api, topic: str) -> None:
    moment = ahead(FAR)
    given = event(id="m", subject="é", partitionkey="k", extra="x", data={"a": [1, None]})
    good(api.publish_event(topic, {**given, "deliverat": moment}))

    listed = api.scheduled(topic)
    shown = good(api.get_scheduled(topic, "m", "/tests"))

    assert listed == [shown]
    assert shown.items() >= given.items()
    assert shown.get("sequence") is None
    assert datetime.fromisoformat(shown["deliverat"]) == datetime.fromisoformat(moment)


def test_list_is_in_the_order_of_joining(api: Api, topic: str) -> None:
    tie = ahead(FAR + 5)
    moments = {"c": tie, "d": tie, "e": ahead(FAR + 9), "a": ahead(FAR), "b": ahead(FAR + 1)}
    for id, moment in moments.items():
        good(api.publish_event(topic, event(id=id, deliverat=moment)))

    assert [message["id"] for message in api.scheduled(topic)] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    "id", ["plain", "a b", "a/b?c=d&e#f", "50%", "é€", "..", "a+b", "%2F", "x" * 200]
)
def test_location_leads_to_the_message(api: Api, topic: str, id: str) -> None:
    source = "/shop/a%20b?x=1&y=é"
    answer = api.publish_event(topic, event(id=id, source=source, deliverat=ahead(FAR)))

    location = answer.headers["location"]
    shown = good(api.http.get(location))

    assert f"/v1/topics/{topic}/scheduled/" in location
    assert (shown["id"], shown["source"]) == (id, source)
    assert api.http.delete(location).status_code == 204
    read_problem(api.http.get(location), 404)


def test_same_id_of_two_sources_is_told_apart(api: Api, topic: str) -> None:
    moment = ahead(FAR)
    for source in ("/a", "/b"):
        good(api.publish_event(topic, event(id="m", source=source, deliverat=moment)))

    assert good(api.get_scheduled(topic, "m", "/a"))["source"] == "/a"
    assert api.cancel_scheduled(topic, "m", "/a").status_code == 204

    assert [message["source"] for message in api.scheduled(topic)] == ["/b"]
    read_problem(api.get_scheduled(topic, "m", "/a"), 404)
    assert good(api.get_scheduled(topic, "m", "/b"))["source"] == "/b"


def test_source_may_be_left_out_for_a_message_of_the_topic_itself(api: Api, topic: str) -> None:
    good(api.publish(topic, 1, id="m", deliverat=ahead(FAR)))
    path = f"/v1/topics/{topic}/scheduled/m"

    answer = api.http.get(path)

    if answer.status_code == 422:
        assert read_problem(answer, 422).names("source")
        return
    assert good(answer)["source"] == f"/topics/{topic}"
    assert api.http.delete(path).status_code == 204


def test_cancelled_message_never_comes(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    moment = ahead(0.7)
    for id in ("kept-1", "cancelled", "kept-2"):
        good(api.publish_event(topic, event(id=id, deliverat=moment)))

    assert api.cancel_scheduled(topic, "cancelled", "/tests").status_code == 204
    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    assert [message["id"] for message in api.all_messages(topic)] == ["kept-1", "kept-2"]
    read_problem(api.cancel_scheduled(topic, "cancelled", "/tests"), 404)
    assert api.scheduled(topic) == []


def test_cancelled_message_is_no_longer_counted(api: Api, topic: str) -> None:
    api.put_topic(topic)
    before = good(api.get_topic(topic))
    good(api.publish_event(topic, event(id="m", deliverat=ahead(FAR), data="x" * 500)))

    api.cancel_scheduled(topic, "m", "/tests")

    after = good(api.get_topic(topic))
    assert (after["message_count"], after["bytes"]) == (before["message_count"], before["bytes"])


def test_joined_message_is_no_longer_scheduled(api: Api, topic: str) -> None:
    good(api.publish_event(topic, event(id="m", deliverat=ahead(0.2))))
    eventually(lambda: list(api.all_messages(topic)))

    assert api.scheduled(topic) == []
    read_problem(api.get_scheduled(topic, "m", "/tests"), 404)
    read_problem(api.cancel_scheduled(topic, "m", "/tests"), 404)
    assert len(list(api.all_messages(topic))) == 1


def test_unknown_message_or_topic_is_not_found(api: Api, topic: str) -> None:
    path = f"/v1/topics/{topic}/scheduled"
    calls: list[Any] = [
        lambda: api.http.get(path),
        lambda: api.get_scheduled(topic, "m", "/x"),
        lambda: api.cancel_scheduled(topic, "m", "/x"),
    ]
    assert {read_problem(call(), 404).code for call in calls} == {"topic_not_found"}

    api.put_topic(topic)
    assert {read_problem(call(), 404).code for call in calls[1:]} == {"message_not_found"}


def test_list_can_be_limited(api: Api, topic: str) -> None:
    moment = ahead(FAR)
    events = [event(id=f"{n:02}", deliverat=moment) for n in range(25)]
    good(api.publish_batch(topic, events))

    assert [message["id"] for message in api.scheduled(topic, limit=10)] == [
        f"{n:02}" for n in range(10)
    ]
    assert len(api.scheduled(topic)) == 25


def test_deleted_topic_takes_what_waits_along(api: Api, topic: str, endpoint: Endpoint) -> None:
    good(api.publish_event(topic, event(id="m", deliverat=ahead(FAR))))

    assert api.delete_topic(topic).status_code == 204
    api.put_topic(topic)

    assert api.scheduled(topic) == []
    assert not good(api.publish_event(topic, event(id="m", deliverat=ahead(FAR))))["duplicate"]


def test_schedule_and_cancellation_survive_a_kill(restartable: BrokerProcess, topic: str) -> None:
    moment = ahead(FAR)
    for id in ("kept", "cancelled"):
        good(restartable.api.publish_event(topic, event(id=id, deliverat=moment, data=id)))
    assert restartable.api.cancel_scheduled(topic, "cancelled", "/tests").status_code == 204
    before = restartable.api.scheduled(topic)

    restartable.kill()
    restartable.start()

    assert restartable.api.scheduled(topic) == before
    assert [message["id"] for message in before] == ["kept"]
