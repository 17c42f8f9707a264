"""A page whose name was led to the broker (DNS rebinding) gets nothing, at whatever door."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest

from support.api import Api
from support.broker_process import BrokerProcess, StartBroker
from support.problem import read_problem

STRANGE, OWN = "evil.example", "events.example.com"
# What a page of the strange name makes a browser send to the broker.
PAGE = {"host": f"{STRANGE}:8080", "accept-language": "en"}
POSTING = {**PAGE, "origin": f"http://{STRANGE}:8080"}
JSON = {"content-type": "application/json"}

DOORS: list[tuple[str, str, Mapping[str, str], bytes]] = [
    ("POST", "/v1/topics/t/messages", {**POSTING, **JSON}, b"1"),
    ("POST", "/v1/topics/t/subscriptions/s/pull", {**POSTING, **JSON}, b"{}"),
    ("POST", "/v1/topics/t/subscriptions/s/ack", {**POSTING, **JSON}, b'{"ack_ids": []}'),
    ("GET", "/v1/topics/t/stream", PAGE, b""),
    ("POST", "/produce", {**POSTING, **JSON}, b'{"Topic": "t", "Body": 1}'),
    ("POST", "/subscribe?topic=t&subscriber=s", POSTING, b""),
    ("GET", "/consume?topic=t&subscriber=s", PAGE, b""),
    ("GET", "/v1/topics", PAGE, b""),
    ("GET", "/v1/topics/t/messages", PAGE, b""),
    ("PUT", "/v1/topics/t", {**POSTING, **JSON}, b"{}"),
    ("DELETE", "/v1/topics/t", POSTING, b""),
    ("GET", "/metrics", PAGE, b""),
    ("GET", "/openapi.json", PAGE, b""),
    ("GET", "/docs", PAGE, b""),
    ("GET", "/", PAGE, b""),
    ("GET", "/topics", PAGE, b""),
    ("GET", "/static/dashboard.js", PAGE, b""),
    ("GET", "/nothing/here", PAGE, b""),
    ("OPTIONS", "/v1/topics", POSTING, b""),
]


def ask(
    running: BrokerProcess, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> httpx.Response:
    """Send exactly this, and no header of a client's own."""
    with httpx.Client(base_url=running.base_url, trust_env=False) as client:
        client.headers.clear()
        return client.request(method, path, headers=headers, content=body or None)


@pytest.mark.parametrize(("method", "path", "headers", "body"), DOORS)
def test_strangers_page_gets_nothing(
    broker: BrokerProcess, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> None:
    answer = ask(broker, method, path, headers, body)

    problem = read_problem(answer, 421)
    assert problem.code == "host_not_allowed"
    assert STRANGE in problem.detail
    assert "BROKER_ALLOWED_HOSTS" in problem.detail
    assert answer.headers["x-request-id"]


def test_refusal_changes_nothing(broker: BrokerProcess, api: Api, topic: str) -> None:
    sequence = api.ok_publish(topic, 1)

    ask(broker, "POST", f"/v1/topics/{topic}/messages", {**POSTING, **JSON}, b"2")
    ask(broker, "DELETE", f"/v1/topics/{topic}?force=true", POSTING)

    assert [each["sequence"] for each in api.all_messages(topic)] == [sequence]


@pytest.mark.parametrize("header", ["origin", "sec-fetch-site", "accept-language"])
def test_each_mark_of_a_browser_is_enough(broker: BrokerProcess, header: str) -> None:
    headers = {"host": STRANGE, header: "x"}

    assert ask(broker, "GET", "/v1/topics", headers).status_code == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8080", "broker:8080", "[::1]", "x.localhost"]
)
def test_browser_comes_by_names_that_are_nobodys(broker: BrokerProcess, host: str) -> None:
    headers = {**PAGE, "host": host, "sec-fetch-site": "same-origin"}

    for path in ("/v1/topics", "/", "/docs"):
        assert ask(broker, "GET", path, headers).status_code == 200


@pytest.mark.parametrize("host", [STRANGE, "broker.prod.svc.cluster.local:8080"])
def test_program_comes_by_any_name(broker: BrokerProcess, topic: str, host: str) -> None:
    headers = {"host": host, "user-agent": "curl/8.5.0", "accept": "*/*", **JSON}

    published = ask(broker, "POST", f"/v1/topics/{topic}/messages", headers, b"1")

    assert published.status_code == 201
    assert ask(broker, "GET", f"/v1/topics/{topic}", headers).status_code == 200


def test_named_hosts_and_the_public_one_are_let_in(start_broker: StartBroker) -> None:
    running = start_broker(
        BROKER_ALLOWED_HOSTS=f"{OWN}, other.example", BROKER_PUBLIC_URL="https://public.example"
    )

    found = {
        name: ask(running, "GET", "/v1/topics", {**PAGE, "host": name}).status_code
        for name in (OWN, "other.example:8080", "PUBLIC.example", STRANGE)
    }

    assert found == {OWN: 200, "other.example:8080": 200, "PUBLIC.example": 200, STRANGE: 421}


def test_every_host_is_let_in_where_that_is_wanted(start_broker: StartBroker) -> None:
    running = start_broker(BROKER_ALLOWED_HOSTS="*")

    assert ask(running, "GET", "/v1/topics", PAGE).status_code == 200


def test_with_keys_on_the_key_decides(start_broker: StartBroker) -> None:
    running = start_broker(BROKER_API_KEYS="on", BROKER_ADMIN_KEY="0123456789abcdef")

    assert ask(running, "GET", "/v1/topics", PAGE).status_code == 401
    assert ask(running, "GET", "/login", PAGE).status_code == 200
