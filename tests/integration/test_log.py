"""The log tells what an operator wants to hear, a line each, and never what is not theirs."""

from __future__ import annotations

import json

from support.api import INSTANT_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.cloudevent import Json, event
from support.endpoint import Answer, Endpoint
from support.eventually import eventually

SECRET_DATA = "what only the endpoint may see"


def lines(broker: BrokerProcess) -> list[Json]:
    """Return what was logged; every line must be JSON, with these fields."""
    told = [json.loads(line) for line in broker.log().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in told)
    return told


def of(broker: BrokerProcess, action: str) -> list[Json]:
    """Return the lines about one kind of thing."""
    return [line for line in lines(broker) if line.get("action") == action]


def test_change_is_told_with_the_request_that_made_it(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    http = broker.api.http
    subscription = {"topic": "t", "subscription": "s"}
    place = "/v1/topics/t/subscriptions/s"
    body = {"endpoint": endpoint.url}
    for method, path, content, action, about in (
        ("PUT", "/v1/topics/t", {}, "topic_created", {"topic": "t"}),
        ("PUT", "/v1/topics/t", {"dedup_window_s": 60}, "topic_updated", {"topic": "t"}),
        ("PUT", place, body, "subscription_created", subscription),
        ("PUT", place, {"max_in_flight": 3}, "subscription_updated", subscription),
        ("POST", f"{place}/pause", None, "subscription_paused", subscription),
        ("POST", f"{place}/resume", None, "subscription_resumed", subscription),
        ("POST", f"{place}/rotate-secret", {}, "secret_rotated", subscription),
        ("POST", f"{place}/seek", {"to": "beginning"}, "sought", {**subscription, "position": 0}),
        (
            "POST",
            f"{place}/dead-letters/replay",
            {"all": True},
            "dead_letters_replayed",
            subscription,
        ),
        ("DELETE", place, None, "subscription_deleted", subscription),
        ("DELETE", "/v1/topics/t", None, "topic_deleted", {"topic": "t"}),
    ):
        id_ = f"{method}-{action}"
        answer = http.request(method, path, json=content, headers={"x-request-id": id_})
        assert answer.is_success, answer.text
        (line,) = of(broker, action)
        assert line["level"] == "info"
        assert line.items() >= {**about, "request_id": id_}.items()


def test_nothing_is_told_where_nothing_changes(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    for _ in range(2):
        good(broker.api.put_topic("t"))
        broker.api.ok_subscribe("t", endpoint.url)
        broker.api.resume("t")
        good(
            broker.api.http.post(
                "/v1/topics/t/subscriptions/s/seek", json={"to": 1, "dry_run": True}
            )
        )
    actions = [line.get("action") for line in lines(broker)]
    assert actions == ["keys_off", "started", "topic_created", "subscription_created"]


def test_message_that_is_given_up_is_told(start_broker: StartBroker, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(404)
    broker = start_broker()
    retry = {**INSTANT_RETRY, "max_attempts": 2}
    broker.api.ok_subscribe("t", endpoint.url, retry=retry)
    broker.api.ok_subscribe("t", endpoint.url, "b", retry=retry, when_exhausted="block")
    sequence = broker.api.ok_publish("t", SECRET_DATA, key="k")

    (dead,) = eventually(lambda: of(broker, "dead_letter"))
    (blocked,) = eventually(lambda: of(broker, "blocked"))

    for line, name in ((dead, "s"), (blocked, "b")):
        assert line["level"] == "warning"
        assert line.items() >= {
            ("topic", "t"),
            ("subscription", name),
            ("sequence", sequence),
            ("attempts", 2),
        }
        assert "answered 404" in line["message"]
        assert "request_id" not in line


def test_endpoint_that_is_down_is_told_once_and_once_that_it_is_back(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(500)
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 0})
    good(broker.api.publish_batch("t", [event(id=str(n), data=SECRET_DATA) for n in range(30)]))

    (down,) = eventually(lambda: of(broker, "circuit_opened"))
    assert (down["level"], down["topic"], down["subscription"]) == ("warning", "t", "s")
    assert "answered 500" in down["message"]
    endpoint.script = lambda request: Answer(200)
    eventually(lambda: broker.api.backlog("t") == 0)

    (back,) = of(broker, "circuit_closed")
    assert (back["level"], back["topic"], back["subscription"]) == ("info", "t", "s")
    assert len(of(broker, "circuit_opened")) == 1


def test_endpoint_that_is_gone_is_told_once(start_broker: StartBroker, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(410, delay_s=0.2)
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url)
    good(broker.api.publish_batch("t", [event(id=str(n)) for n in range(20)]))
    eventually(lambda: of(broker, "subscription_paused"))
    eventually(lambda: broker.api.ok_status("t")["in_flight"] == 0)

    (gone,) = of(broker, "endpoint_gone")
    assert gone.items() >= {("topic", "t"), ("subscription", "s")}
    assert len(endpoint.requests) > 1
    assert len(of(broker, "subscription_paused")) == 1


def test_endpoint_that_rejects_all_does_not_fill_the_log(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(422)
    broker = start_broker()
    retry = {**INSTANT_RETRY, "max_attempts": 1}
    broker.api.ok_subscribe("t", endpoint.url, retry=retry)
    broker.api.ok_subscribe(
        "t", endpoint.url, "b", retry=retry, when_exhausted="block", format="batch"
    )
    events = [event(id=str(n), partitionkey="k") for n in range(50)]
    good(broker.api.publish_batch("t", events))
    eventually(lambda: broker.api.ok_status("t")["dead_letters"] == 50)
    eventually(lambda: of(broker, "blocked"))

    assert len(of(broker, "dead_letter")) == 1
    (blocked,) = of(broker, "blocked")
    assert blocked["sequence"] == 1


def test_endpoint_that_was_down_is_replaced(start_broker: StartBroker, endpoint: Endpoint) -> None:
    broker = start_broker()
    nobody = f"http://127.0.0.1:{free_port()}/hook"
    broker.api.ok_subscribe("t", nobody, retry={**INSTANT_RETRY, "max_attempts": 0})
    good(broker.api.publish_batch("t", [event(id=str(n)) for n in range(30)]))
    eventually(lambda: of(broker, "circuit_opened"))

    broker.api.ok_subscribe("t", endpoint.url)
    eventually(lambda: broker.api.backlog("t") == 0)
    (closed,) = of(broker, "circuit_closed")
    assert closed["message"] == "t/s has another endpoint now."


def test_messages_that_are_too_old_are_told_together(start_broker: StartBroker) -> None:
    broker = start_broker()
    good(broker.api.put_subscription("t", "s", max_backlog_age_s=1))
    good(broker.api.publish_batch("t", [event(id=str(n)) for n in range(20)]))

    told = eventually(lambda: of(broker, "too_old"), within_s=30)
    eventually(lambda: sum(line["count"] for line in of(broker, "too_old")) == 20, within_s=30)
    assert len(of(broker, "too_old")) < 20
    assert told[0].items() >= {("topic", "t"), ("subscription", "s")}


def test_no_line_has_a_payload_or_a_secret(start_broker: StartBroker, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(404, body=request.body)
    admin_key = "the-key-of-the-administrator"
    broker = start_broker(
        BROKER_API_KEYS="on", BROKER_ADMIN_KEY=admin_key, BROKER_LOG_LEVEL="debug"
    )
    api: Api = broker.api
    api.http.headers["authorization"] = f"Bearer {admin_key}"
    made = good(api.http.post("/v1/keys", json={"name": "shop", "scopes": ["publish:*"]}))
    shown = api.ok_subscribe(
        "t",
        endpoint.url,
        retry={**INSTANT_RETRY, "max_attempts": 2},
        headers={"authorization": "Bearer of-the-endpoint"},
    )
    api.ok_publish("t", SECRET_DATA)
    api.http.post("/v1/topics/t/messages", content=SECRET_DATA.encode())
    eventually(lambda: of(broker, "dead_letter"))
    rotated = good(api.http.post("/v1/topics/t/subscriptions/s/rotate-secret", json={}))
    assert api.http.delete(f"/v1/keys/{made['id']}").is_success

    (created,) = of(broker, "key_created")
    assert created.items() >= {("key_id", made["id"]), ("key_name", "shop")}
    assert of(broker, "key_revoked")
    log = broker.log()
    for secret in (
        SECRET_DATA,
        admin_key,
        made["key"],
        shown["secret"],
        rotated["secret"],
        "of-the-endpoint",
    ):
        assert secret not in log
