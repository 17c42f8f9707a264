"""Subscriptions: create, update, show, list, delete, and the fields of each."""

from __future__ import annotations

from typing import Any

import pytest

from support.api import QUICK_RETRY, SLOW_RETRY, Api, good
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.problem import read_problem
from support.signature import new_secret

DEFAULTS: dict[str, Any] = {
    "endpoint": None,
    "guarantee": "at-least-once",
    "ordering": "key",
    "format": "binary",
    "max_in_flight": 64,
    "rate_limit": None,
    "timeout_s": 15,
    "retry": {"max_attempts": 20, "min_backoff_s": 1, "max_backoff_s": 600},
    "headers": {},
}

OTHERS: dict[str, Any] = {
    "ordering": "topic",
    "format": "batch",
    "max_batch": 7,
    "max_in_flight": 3,
    "timeout_s": 2.5,
    "retry": {"max_attempts": 3, "min_backoff_s": 0.5, "max_backoff_s": 9},
}

STATISTICS = {
    *("state", "backlog", "oldest_unsettled_s", "in_flight", "retrying"),
    *("dead_letters", "blocked_keys", "last_error"),
}

WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"endpoint": 5}, "endpoint"),
    ({"endpoint": ""}, "endpoint"),
    ({"endpoint": "no url"}, "endpoint"),
    ({"endpoint": "/relative"}, "endpoint"),
    ({"endpoint": "ftp://127.0.0.1/x"}, "endpoint"),
    ({"endpoint": "file:///etc/passwd"}, "endpoint"),
    ({"endpoint": "http://"}, "endpoint"),
    ({"endpoint": "http://127.0.0.1:99999/"}, "endpoint"),
    ({"endpoint": "http://127.0.0.1/a b"}, "endpoint"),
    ({"endpoint": "http://127.0.0.1/\r\nX-Evil: 1"}, "endpoint"),
    ({"guarantee": "maybe-once"}, "guarantee"),
    ({"ordering": "random"}, "ordering"),
    ({"ordering": 1}, "ordering"),
    ({"ordering": ["key"]}, "ordering"),
    ({"format": "xml"}, "format"),
    ({"format": "batch", "max_batch": 0}, "max_batch"),
    ({"format": "batch", "max_batch": "ten"}, "max_batch"),
    ({"format": "batch", "max_batch": 1.5}, "max_batch"),
    ({"max_in_flight": 0}, "max_in_flight"),
    ({"max_in_flight": -1}, "max_in_flight"),
    ({"max_in_flight": "64"}, "max_in_flight"),
    ({"max_in_flight": True}, "max_in_flight"),
    ({"rate_limit": -1}, "rate_limit"),
    ({"rate_limit": "fast"}, "rate_limit"),
    ({"timeout_s": 0}, "timeout_s"),
    ({"timeout_s": -1}, "timeout_s"),
    ({"timeout_s": "15"}, "timeout_s"),
    ({"retry": 5}, "retry"),
    ({"retry": {"max_attempts": -1}}, "max_attempts"),
    ({"retry": {"max_attempts": 1.5}}, "max_attempts"),
    ({"retry": {"max_attempts": "many"}}, "max_attempts"),
    ({"retry": {"min_backoff_s": -1}}, "min_backoff_s"),
    ({"retry": {"min_backoff_s": "1"}}, "min_backoff_s"),
    ({"retry": {"max_backoff_s": -1}}, "max_backoff_s"),
    ({"retry": {"min_backoff_s": 10, "max_backoff_s": 1}}, "max_backoff_s"),
    ({"retry": {"attempts": 5}}, "attempts"),
    ({"when_exhausted": "shrug"}, "when_exhausted"),
    ({"start": "tomorrow"}, "start"),
    ({"start": -1}, "start"),
    ({"start": 1.5}, "start"),
    ({"start": {}}, "start"),
    ({"ack_deadline_s": 0}, "ack_deadline_s"),
    ({"ack_deadline_s": "x"}, "ack_deadline_s"),
    ({"headers": "x"}, "headers"),
    ({"headers": {"X-A": 5}}, "headers"),
    ({"headers": {"bad name": "x"}}, "headers"),
    ({"headers": {"X-A": "a\r\nX-Evil: 1"}}, "headers"),
    ({"secret": "plain"}, "secret"),
    ({"secret": "whsec_"}, "secret"),
    ({"secret": "whsec_!!!"}, "secret"),
    ({"secret": 5}, "secret"),
    ({"colour": "red"}, "colour"),
    ({"max_inflight": 5}, "max_inflight"),
]


def test_put_subscription_creates_then_updates(api: Api, topic: str, endpoint: Endpoint) -> None:
    fields = {"endpoint": endpoint.url, "ordering": "none"}

    assert api.put_subscription(topic, "s", **fields).status_code == 201
    assert api.put_subscription(topic, "s", **fields).status_code == 200
    assert api.put_subscription(topic, "s", **{**fields, "ordering": "key"}).status_code == 200
    assert api.ok_status(topic)["ordering"] == "key"


def test_put_subscription_without_body_creates_one(api: Api, topic: str) -> None:
    answer = api.http.put(f"/v1/topics/{topic}/subscriptions/s")

    assert answer.status_code == 201
    assert api.ok_status(topic)["endpoint"] is None


def test_new_subscription_shows_defaults(api: Api, topic: str) -> None:
    api.put_subscription(topic, "s")

    shown = api.ok_status(topic)

    assert {name: shown[name] for name in DEFAULTS} == DEFAULTS


def test_new_subscription_shows_its_statistics(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)

    shown = api.ok_status(topic)

    assert shown.keys() >= STATISTICS
    assert shown["state"] == "active"
    assert [shown[name] for name in ("backlog", "in_flight", "retrying", "dead_letters")] == [0] * 4
    assert not shown["last_error"]
    assert not shown["oldest_unsettled_s"]


def test_subscription_keeps_what_it_was_given(api: Api, topic: str, endpoint: Endpoint) -> None:
    given = {**OTHERS, "endpoint": endpoint.url}
    api.put_subscription(topic, "s", **given)

    shown = api.ok_status(topic)

    assert {name: shown[name] for name in given} == given


def test_put_subscription_keeps_what_it_does_not_name(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    given = {**OTHERS, "endpoint": endpoint.url}
    api.put_subscription(topic, "s", **given)

    api.put_subscription(topic, "s", timeout_s=4)
    api.http.put(f"/v1/topics/{topic}/subscriptions/s")
    shown = api.ok_status(topic)

    assert {name: shown[name] for name in given} == {**given, "timeout_s": 4}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_null_restores_the_default(api: Api, topic: str, endpoint: Endpoint, name: str) -> None:
    api.put_subscription(topic, "s", **OTHERS, endpoint=endpoint.url)

    good(api.put_subscription(topic, "s", **{name: None}))
    shown = api.ok_status(topic)

    wanted = {**OTHERS, name: {**DEFAULTS, "max_batch": 100}[name], "endpoint": endpoint.url}
    assert {field: shown[field] for field in wanted} == wanted


def test_null_endpoint_turns_the_subscription_into_pull(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)

    good(api.put_subscription(topic, "s", endpoint=None))
    api.ok_publish(topic, 1)

    assert api.ok_status(topic)["endpoint"] is None
    eventually(lambda: api.ok_status(topic)["backlog"] == 1)
    assert endpoint.requests == []


def test_partial_retry_is_filled_with_defaults(api: Api, topic: str) -> None:
    api.put_subscription(topic, "s", retry={"max_attempts": 3})

    assert api.ok_status(topic)["retry"] == {**DEFAULTS["retry"], "max_attempts": 3}


def test_unlimited_attempts_are_allowed(api: Api, topic: str) -> None:
    api.put_subscription(topic, "s", retry={"max_attempts": 0})

    assert api.ok_status(topic)["retry"]["max_attempts"] == 0


@pytest.mark.parametrize(("wrong", "field"), WRONG_FIELDS)
def test_wrong_field_is_refused_by_name_and_creates_nothing(
    api: Api, topic: str, endpoint: Endpoint, wrong: dict[str, Any], field: str
) -> None:
    api.put_topic(topic)
    answer = api.put_subscription(topic, "s", **{"endpoint": endpoint.url, **wrong})

    problem = read_problem(answer, 422)

    assert problem.names(field), problem.fields
    assert api.get_subscription(topic, "s").status_code == 404


def test_refused_subscription_creates_no_topic(api: Api, topic: str) -> None:
    read_problem(api.put_subscription(topic, "s", ordering="random"), 422)

    assert api.get_topic(topic).status_code == 404


def test_wrong_update_changes_nothing(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    before = api.ok_status(topic)

    read_problem(api.put_subscription(topic, "s", timeout_s=3, ordering="random"), 422)

    after = api.ok_status(topic)
    assert (after["timeout_s"], after["ordering"]) == (before["timeout_s"], before["ordering"])


def test_all_faults_of_a_subscription_are_told_at_once(api: Api, topic: str) -> None:
    wrong = {
        "endpoint": "x",
        "ordering": "y",
        "retry": {"max_attempts": -1},
        "timeout_s": 0,
        "colour": 1,
    }

    problem = read_problem(api.put_subscription(topic, "s", **wrong), 422)

    for field in ("endpoint", "ordering", "max_attempts", "timeout_s", "colour"):
        assert problem.names(field), problem.fields


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"endpoint": }'])
def test_malformed_subscription_is_refused(api: Api, topic: str, body: bytes) -> None:
    answer = api.http.put(
        f"/v1/topics/{topic}/subscriptions/s",
        content=body,
        headers={"content-type": "application/json"},
    )

    read_problem(answer, 400)
    assert api.get_topic(topic).status_code == 404


@pytest.mark.parametrize("body", [[], "x", 5, True])
def test_subscription_must_be_an_object(api: Api, topic: str, body: object) -> None:
    read_problem(api.http.put(f"/v1/topics/{topic}/subscriptions/s", json=body), 400, 422)


@pytest.mark.parametrize("name", ["-a", "a" * 129, "a%20b", "%C3%A9"])
def test_subscription_name_outside_the_rule_is_refused(api: Api, topic: str, name: str) -> None:
    api.put_topic(topic)

    read_problem(api.put_subscription(topic, name), 400, 404, 422)


def test_subscriptions_are_listed(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, "one")
    api.ok_subscribe(topic, endpoint.url, "two")

    body = api.list_subscriptions(topic).json()

    entries = body["subscriptions"] if isinstance(body, dict) else body
    assert [name for name in ("one", "two") for each in entries if name in each.values()] == [
        "one",
        "two",
    ]
    assert len(entries) == 2


def test_topic_without_subscriptions_lists_none(api: Api, topic: str) -> None:
    api.put_topic(topic)

    body = api.list_subscriptions(topic).json()

    assert (body["subscriptions"] if isinstance(body, dict) else body) == []


def test_unknown_subscription_is_not_found(api: Api, topic: str) -> None:
    api.put_topic(topic)

    for answer in (api.get_subscription(topic, "s"), api.delete_subscription(topic, "s")):
        assert read_problem(answer, 404).code == "subscription_not_found"


def test_deleted_subscription_gets_nothing_more(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint() as other:
        api.ok_subscribe(topic, endpoint.url, "gone")
        api.ok_subscribe(topic, other.url, "stays")

        assert api.delete_subscription(topic, "gone").status_code == 204
        assert api.get_subscription(topic, "gone").status_code == 404
        sequence = api.ok_publish(topic, 1)

        eventually(lambda: other.sequences == [sequence])
    assert endpoint.requests == []


def test_deleted_subscription_is_not_retried(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, "gone", retry={**QUICK_RETRY, "min_backoff_s": 0.2})
    api.ok_publish(topic, 1)
    eventually(lambda: endpoint.requests)

    api.delete_subscription(topic, "gone")
    before = len(endpoint.requests)
    with Endpoint() as other:
        api.ok_subscribe(topic, other.url, "fresh")
        for n in range(20):
            api.ok_publish(topic, n)
        eventually(lambda: len(other.requests) == 20)

    assert len(endpoint.requests) <= before + 1  # the one that was on its way


def test_subscription_made_anew_starts_afresh(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    api.ok_publish(topic, "old")
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)
    api.delete_subscription(topic, "s")

    endpoint.script = always(Answer(200))
    api.ok_subscribe(topic, endpoint.url)
    fresh = api.ok_publish(topic, "new")

    eventually(lambda: endpoint.sequences[-1] == fresh)
    shown = eventually(lambda: _settled(api.ok_status(topic)))
    assert shown["retrying"] == 0
    assert len(endpoint.requests) == 2


def test_statistics_follow_a_failing_delivery(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500, body=b"broken"))
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    api.ok_publish(topic, 1)

    shown = eventually(lambda: _retrying(api.ok_status(topic)))

    assert shown["backlog"] == 1
    assert shown["oldest_unsettled_s"] >= 0
    assert "500" in str(shown["last_error"])


def test_backlog_counts_a_failing_delivery_at_every_moment(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(404))
    retry = {"max_attempts": 0, "min_backoff_s": 0.005, "max_backoff_s": 0.01}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    api.ok_publish(topic, 1)

    backlogs = {api.ok_status(topic)["backlog"] for _ in range(200)}

    assert backlogs == {1}
    assert len(endpoint.requests) > 5


def test_backlog_falls_to_nothing_when_all_is_settled(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    for n in range(30):
        api.ok_publish(topic, n)

    shown = eventually(lambda: _settled(api.ok_status(topic)))

    assert (shown["in_flight"], shown["retrying"], shown["dead_letters"]) == (0, 0, 0)
    assert len(endpoint.requests) == 30


def test_given_secret_in_a_wrong_form_is_not_echoed(api: Api, topic: str) -> None:
    secret = new_secret() + "!"

    assert secret not in api.put_subscription(topic, "s", secret=secret).text


def _settled(shown: dict[str, Any]) -> dict[str, Any] | None:
    return shown if shown["backlog"] == 0 and shown["in_flight"] == 0 else None


def _retrying(shown: dict[str, Any]) -> dict[str, Any] | None:
    return shown if shown["retrying"] == 1 else None
