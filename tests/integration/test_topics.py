"""Topics: create, update, show, list, delete."""

from __future__ import annotations

from typing import Any

import pytest

from support.api import Api, good
from support.broker_process import StartBroker
from support.cloudevent import event
from support.endpoint import Endpoint
from support.problem import read_problem

DEFAULT_RETENTION = {"max_age_s": 604800, "max_bytes": None, "max_messages": None}

GOOD_NAMES = ["a", "A", "9", "order", "order.created", "order_created-2", "a" * 128]
BAD_NAMES = ["-a", ".a", "_a", "a" * 129, "a%20b", "a%2Fb", "%C3%A9", "a%00", "a:b", "a@b"]

WRONG_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"retention": 5}, "retention"),
    ({"retention": {"max_age_s": "long"}}, "max_age_s"),
    ({"retention": {"max_age_s": -1}}, "max_age_s"),
    ({"retention": {"max_bytes": -1}}, "max_bytes"),
    ({"retention": {"max_bytes": 1.5}}, "max_bytes"),
    ({"retention": {"max_messages": "many"}}, "max_messages"),
    ({"retention": {"max_age": 5}}, "max_age"),
    ({"dedup_window_s": "a day"}, "dedup_window_s"),
    ({"dedup_window_s": -1}, "dedup_window_s"),
    ({"dedup_window_s": True}, "dedup_window_s"),
    ({"retentions": {}}, "retentions"),
]


def entries(body: Any, name: str) -> list[dict[str, Any]]:
    """Give the entries of a listing, whether it is bare or under its name."""
    return list(body[name] if isinstance(body, dict) else body)


def test_put_topic_creates_then_updates(api: Api, topic: str) -> None:
    assert api.put_topic(topic).status_code == 201
    assert api.put_topic(topic).status_code == 200


def test_put_topic_without_body_creates_it(api: Api, topic: str) -> None:
    assert api.http.put(f"/v1/topics/{topic}").status_code == 201


def test_new_topic_shows_defaults_and_is_empty(api: Api, topic: str) -> None:
    api.put_topic(topic)

    shown = good(api.get_topic(topic))

    assert shown["retention"] == DEFAULT_RETENTION
    assert shown["dedup_window_s"] == 86400
    assert shown["message_count"] == 0
    assert shown["bytes"] == 0
    assert shown["subscriptions"] in (0, [])
    assert {"first_sequence", "last_sequence"} <= shown.keys()


def test_topic_counts_its_messages(api: Api, topic: str) -> None:
    sequences = [api.ok_publish(topic, n) for n in range(3)]

    shown = good(api.get_topic(topic))

    assert shown["message_count"] == 3
    assert shown["bytes"] > 0
    assert (shown["first_sequence"], shown["last_sequence"]) == (sequences[0], sequences[-1])


def test_topic_counts_its_subscriptions(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, "one")
    api.ok_subscribe(topic, endpoint.url, "two")

    subscriptions = good(api.get_topic(topic))["subscriptions"]

    assert subscriptions == 2 or len(subscriptions) == 2


def test_put_topic_keeps_what_it_does_not_name(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=60, retention={"max_messages": 1000})

    api.put_topic(topic, dedup_window_s=120)
    shown = good(api.get_topic(topic))

    assert shown["dedup_window_s"] == 120
    assert shown["retention"]["max_messages"] == 1000


def test_put_topic_with_null_restores_the_default(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=60, retention={"max_messages": 1000})

    api.put_topic(topic, dedup_window_s=None, retention=None)
    shown = good(api.get_topic(topic))

    assert shown["dedup_window_s"] == 86400
    assert shown["retention"] == DEFAULT_RETENTION


@pytest.mark.parametrize(("config", "field"), WRONG_CONFIGS)
def test_wrong_topic_config_is_refused_and_creates_nothing(
    api: Api, topic: str, config: dict[str, Any], field: str
) -> None:
    problem = read_problem(api.put_topic(topic, **config), 422)

    assert problem.names(field), problem.fields
    assert api.get_topic(topic).status_code == 404


def test_wrong_topic_update_changes_nothing(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=60)

    read_problem(api.put_topic(topic, dedup_window_s=120, retention={"max_bytes": -1}), 422)

    assert good(api.get_topic(topic))["dedup_window_s"] == 60


def test_all_faults_of_a_topic_config_are_told_at_once(api: Api, topic: str) -> None:
    answer = api.put_topic(topic, dedup_window_s="x", colour="red", retention={"max_bytes": -1})

    problem = read_problem(answer, 422)

    assert all(problem.names(field) for field in ("dedup_window_s", "colour", "max_bytes"))


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_topic_name_within_the_rule_is_accepted(api: Api, name: str) -> None:
    try:
        assert api.put_topic(name).status_code == 201
        assert api.get_topic(name).status_code == 200
    finally:
        api.delete_topic(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_topic_name_outside_the_rule_is_refused(api: Api, name: str) -> None:
    read_problem(api.put_topic(name), 400, 404, 422)
    read_problem(api.post(name, b"x"), 400, 404, 422)


def test_topics_are_listed(api: Api, topic: str) -> None:
    api.put_topic(topic)

    answer = api.http.get("/v1/topics")

    assert answer.status_code == 200
    assert any(topic in entry.values() for entry in entries(answer.json(), "topics"))


def test_unknown_topic_is_not_found(api: Api, topic: str) -> None:
    answers = [
        api.get_topic(topic),
        api.delete_topic(topic),
        api.browse(topic),
        api.get_message(topic, 1),
        api.list_subscriptions(topic),
        api.get_subscription(topic, "s"),
        api.delete_subscription(topic, "s"),
    ]

    assert {read_problem(answer, 404).code for answer in answers} == {"topic_not_found"}


def test_topic_is_deleted_with_its_messages(api: Api, topic: str) -> None:
    api.ok_publish(topic, 1)

    assert api.delete_topic(topic).status_code == 204
    assert api.get_topic(topic).status_code == 404
    api.put_topic(topic)
    assert good(api.browse(topic))["messages"] == []


def test_topic_with_subscriptions_is_deleted_only_by_force(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)

    read_problem(api.delete_topic(topic), 409)
    assert api.get_subscription(topic, "s").status_code == 200

    assert api.delete_topic(topic, force=True).status_code == 204
    assert api.get_topic(topic).status_code == 404
    api.put_topic(topic)
    assert read_problem(api.get_subscription(topic, "s"), 404).code == "subscription_not_found"


def test_publish_and_subscribe_create_the_topic(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    assert api.get_topic(topic).status_code == 200
    api.delete_topic(topic, force=True)

    api.ok_publish(topic, 1)
    assert api.get_topic(topic).status_code == 200


def test_without_auto_create_an_unknown_topic_is_refused(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    api = start_broker(BROKER_AUTO_CREATE_TOPICS="false").api

    answers = [
        api.publish("t", 1),
        api.publish_event("t", event()),
        api.publish_batch("t", [event()]),
        api.put_subscription("t", "s", endpoint=endpoint.url),
    ]

    assert [read_problem(answer, 404).code for answer in answers] == ["topic_not_found"] * 4
    assert api.get_topic("t").status_code == 404
    api.put_topic("t")
    assert api.ok_publish("t", 1) > 0
    api.ok_subscribe("t", endpoint.url)
