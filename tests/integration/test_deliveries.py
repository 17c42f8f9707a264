"""What is not yet settled, by its state; and that every call knows what it does not know."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always
from support.eventually import eventually
from support.problem import read_problem

OK = Answer(200)
FIELDS = {"sequence", "state", "attempt", "next_attempt_at", "last_error", "key", "id", "type"}


def test_retrying_delivery_is_told(api: Api, topic: str, endpoint: Endpoint) -> None:
    began = datetime.now(UTC)
    endpoint.script = always(Answer(404))
    retry = {"max_attempts": 9, "min_backoff_s": 3600, "max_backoff_s": 7200}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    given = event(id="m-1", type="order.placed", partitionkey="k")
    sequence = good(api.publish_event(topic, given))["sequence"]

    (entry,) = eventually(lambda: api.deliveries(topic, "retrying"))

    assert entry.keys() >= FIELDS
    assert (entry["sequence"], entry["state"], entry["attempt"]) == (sequence, "retrying", 2)
    assert (entry["key"], entry["id"], entry["type"]) == ("k", "m-1", "order.placed")
    assert "404" in entry["last_error"]
    due = datetime.fromisoformat(entry["next_attempt_at"])
    assert due.tzinfo is not None
    assert began - timedelta(seconds=1) < due < began + timedelta(hours=2)


def test_attempts_are_counted(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(
        503, {"Retry-After": "3600"} if request.attempt == 3 else {}
    )
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    api.ok_publish(topic, 1)

    eventually(lambda: [each["attempt"] for each in api.deliveries(topic, "retrying")] == [4])

    assert len(endpoint.requests) == 3


def test_delivery_without_key_has_none(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404))
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    api.ok_publish(topic, 1)

    (entry,) = eventually(lambda: api.deliveries(topic, "retrying"))

    assert entry["key"] is None


def test_delivery_in_flight_is_told(api: Api, topic: str, endpoint: Endpoint) -> None:
    release = threading.Event()

    def hold(_request: Received) -> Answer:
        release.wait(20)
        return OK

    endpoint.script = hold
    api.ok_subscribe(topic, endpoint.url, max_in_flight=3)
    sequences = [api.ok_publish(topic, n, key=f"k{n}", id=f"m{n}") for n in range(5)]
    eventually(lambda: len(endpoint.requests) == 3)

    out = api.deliveries(topic, "in-flight")
    assert [each["sequence"] for each in out] == sequences[:3]
    assert all(each.keys() >= FIELDS for each in out)
    assert {(each["state"], each["attempt"]) for each in out} == {("in-flight", 1)}
    assert [(each["key"], each["id"]) for each in out] == [(f"k{n}", f"m{n}") for n in range(3)]
    assert api.ok_status(topic)["in_flight"] == 3
    assert api.deliveries(topic, "retrying") == []

    release.set()
    eventually(lambda: api.backlog(topic) == 0)
    assert api.deliveries(topic, "in-flight") == []


def test_second_attempt_in_flight_is_not_retrying(api: Api, topic: str, endpoint: Endpoint) -> None:
    release = threading.Event()

    def hold_second(request: Received) -> Answer:
        if request.attempt == 1:
            return Answer(404)
        release.wait(20)
        return OK

    endpoint.script = hold_second
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: len(endpoint.requests) == 2)

    (out,) = api.deliveries(topic, "in-flight")
    assert (out["sequence"], out["attempt"]) == (sequence, 2)
    assert api.deliveries(topic, "retrying") == []
    release.set()
    eventually(lambda: api.backlog(topic) == 0)


@pytest.mark.parametrize("state", ["retrying", "in-flight", "blocked"])
def test_state_nothing_is_in_is_empty(api: Api, topic: str, endpoint: Endpoint, state: str) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, 1)
    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert api.deliveries(topic, state) == []


def test_message_that_waits_behind_its_key_is_neither_retrying_nor_blocked(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(404 if request.key == "k" else 200)
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: api.deliveries(topic, "retrying"))
    last = api.ok_publish(topic, 1, key="other")
    eventually(lambda: last in endpoint.sequences and api.backlog(topic) == 3)

    assert [each["sequence"] for each in api.deliveries(topic, "retrying")] == sequences[:1]
    assert api.deliveries(topic, "blocked") == []
    assert api.ok_status(topic)["blocked_keys"] == 1


@pytest.mark.parametrize("state", ["", "shiny", "RETRYING", "dead"])
def test_unknown_state_is_refused(api: Api, topic: str, endpoint: Endpoint, state: str) -> None:
    api.ok_subscribe(topic, endpoint.url)

    problem = read_problem(api.look(topic, "deliveries", params={"state": state}), 400, 422)

    assert "retrying" in problem.text


def test_each_subscription_has_its_own_deliveries(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404))
    api.ok_subscribe(topic, endpoint.url, "failing", retry=SLOW_RETRY)
    api.put_subscription(topic, "other")
    api.ok_publish(topic, 1)

    eventually(lambda: api.deliveries(topic, "retrying", "failing"))

    assert api.deliveries(topic, "retrying", "other") == []


# -- unknown topics and subscriptions

CALLS: dict[str, tuple[str, str, Any]] = {
    "pause": ("POST", "pause", None),
    "resume": ("POST", "resume", None),
    "seek": ("POST", "seek", {"to": "now"}),
    "rotate": ("POST", "rotate-secret", {}),
    "deliveries": ("GET", "deliveries?state=retrying", None),
    "retry": ("POST", "deliveries/1/retry", None),
    "give up": ("POST", "deliveries/1/dead-letter", None),
    "attempts": ("GET", "messages/1/attempts", None),
    "dead letters": ("GET", "dead-letters", None),
    "dead letter": ("GET", "dead-letters/1", None),
    "drop": ("DELETE", "dead-letters/1", None),
    "replay": ("POST", "dead-letters/replay", {"all": True}),
}


@pytest.mark.parametrize(("method", "path", "body"), CALLS.values(), ids=CALLS.keys())
def test_unknown_subscription_or_topic_is_not_found(
    api: Api, topic: str, method: str, path: str, body: Any
) -> None:
    url = f"/v1/topics/{topic}/subscriptions/s/{path}"
    assert read_problem(api.http.request(method, url, json=body), 404).code == "topic_not_found"

    api.put_topic(topic)
    answer = api.http.request(method, url, json=body)
    assert read_problem(answer, 404).code == "subscription_not_found"
    assert good(api.list_subscriptions(topic))["subscriptions"] == []


@pytest.mark.parametrize("action", ["seek", "rotate-secret", "dead-letters/replay"])
@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b"\xff"])
def test_body_that_is_no_json_object_is_refused(
    api: Api, topic: str, endpoint: Endpoint, action: str, body: bytes
) -> None:
    api.ok_subscribe(topic, endpoint.url)

    answer = api.http.post(
        f"/v1/topics/{topic}/subscriptions/s/{action}",
        content=body,
        headers={"content-type": "application/json"},
    )

    read_problem(answer, 400, 422)
