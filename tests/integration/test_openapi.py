"""The broker's description of itself is there, is cheap to ask for, and is true.

Besides what is tried here, every exchange of every test is held against it: see support.described.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import broker as product
from support.api import Api, accepted, good
from support.broker_process import BrokerProcess, StartBroker
from support.described import Description
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.problem import read_problem

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(broker: Any) -> Json:
    """The description of the shared broker."""
    return good(broker.api.http.get("/openapi.json"))


def test_description_names_the_broker_s_version(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == product.__version__


def test_description_is_sent_once_to_whoever_keeps_it(api: Api) -> None:
    first = api.http.get("/openapi.json")
    again = api.http.get("/openapi.json", headers={"if-none-match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


def test_description_needs_no_key(start_broker: StartBroker) -> None:
    running = start_broker(BROKER_API_KEYS="on", BROKER_ADMIN_KEY="an-admin-key-of-a-test")

    assert running.api.http.get("/openapi.json").status_code == 200
    read_problem(running.api.http.get("/v1/topics"), 401)


def test_every_call_in_the_description_is_served(api: Api, document: Json) -> None:
    for path, item in document["paths"].items():
        if path == "/consume":
            continue  # it would wait
        filled = path.format(topic="nowhere", name="nobody", sequence=1, id="1", token="1")
        for method in item:
            answer = api.http.request(method, filled, params={"state": "blocked"})
            if answer.status_code == 404:
                assert answer.json()["code"] != "route_not_found", (method, path)


# -- what a fuzzer makes of it -----------------------------------------------------------------

ENDLESS = ("stream", "consume")
GROUPS = {
    "topics": ("Topics", "Messages", "Scheduled messages"),
    "subscriptions": ("Subscriptions",),
    "deliveries": ("Deliveries", "Dead letters", "Later"),
    "pull": ("Pull",),
    "others": ("API keys", "Operations", "The original example"),
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for the fuzzer alone."""
    running = BrokerProcess(tmp_path_factory.mktemp("fuzzed")).start()
    yield running
    running.close()


@pytest.fixture
def filled(
    fuzzed: BrokerProcess, endpoint: Endpoint, request: pytest.FixtureRequest
) -> BrokerProcess:
    """The same, with what the examples of parameters name: topic, subscription, messages."""
    api = fuzzed.api
    api.delete_topic("order", force=True)
    pulled = request.node.name.endswith("[pull]")
    endpoint.script = always(Answer(422))
    url = None if pulled else endpoint.url
    accepted(api.put_subscription("order", "shipping", endpoint=url))
    for number in range(20):
        api.ok_publish("order", number, key=str(number % 3))
    later = {"id": "reminder-1", "deliverat": "2100-01-01T00:00:00Z"}
    accepted(api.publish("order", 1, **later))
    if not pulled:
        eventually(lambda: len(api.dead_letters("order", "shipping")) == 20)
    return fuzzed


def fuzz(running: BrokerProcess, *options: str) -> None:
    """Run schemathesis, which sends what the description takes and what it does not."""
    excluded = [option for name in ENDLESS for option in ("--exclude-operation-id", name)]
    environment = {
        "SCHEMATHESIS_HOOKS": "support.fuzzing",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run"),
            *(f"{running.base_url}/openapi.json", "--seed=1", "--no-color"),
            *("--mode=all", "--continue-on-failure", "--generation-database=none"),
            *(*excluded, *options),
        ],
        env=os.environ | environment,
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    assert '"level": "error"' not in running.log()


@pytest.mark.parametrize("group", GROUPS)
def test_fuzzer_finds_nothing_wrong_with_any_call(filled: BrokerProcess, group: str) -> None:
    tags = [option for tag in GROUPS[group] for option in ("--include-tag", tag)]

    fuzz(filled, "--phases=examples,coverage,fuzzing", "--max-examples=5", *tags)


def test_fuzzer_finds_nothing_wrong_with_one_call_after_another(filled: BrokerProcess) -> None:
    fuzz(filled, "--phases=stateful", "--max-examples=10")


def test_groups_have_every_call(document: Json) -> None:
    assert {tag["name"] for tag in document["tags"]} == {
        tag for tags in GROUPS.values() for tag in tags
    }


# -- what holds exchanges against it notices ---------------------------------------------------


@pytest.fixture
def description(document: Json) -> Description:
    """A copy, for a test to falsify."""
    return Description(copy.deepcopy(document))


def exchange(
    method: str = "GET",
    path: str = "/v1/topics/order",
    status: int = 404,
    answer: Any = None,
    headers: dict[str, str] | None = None,
    **request: Any,
) -> httpx.Response:
    """Make an exchange, by default a refusal that is described."""
    body = {
        "type": "https://errors.broker.example/topic_not_found",
        "title": "No topic has this name.",
        "status": status,
        "detail": "There is no such topic.",
        "code": "topic_not_found",
    }
    return httpx.Response(
        status,
        json=body if answer is None else answer,
        headers={
            "x-request-id": "1",
            "content-type": "application/problem+json",
            **(headers or {}),
        },
        request=httpx.Request(method, f"http://broker{path}", **request),
    )


BACKLOG = {"status": 200, "answer": {"backlog": 1}, "headers": {"content-type": "application/json"}}
SEEK: Json = {"method": "POST", "path": "/v1/topics/t/subscriptions/s/seek", **BACKLOG}


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 410},
        {"headers": {"content-type": "text/html"}},
        {"headers": {"content-type": "application/json"}},
        {"headers": {"retry-after": "1"}},
        {"answer": {"code": "topic_not_found"}},
        {"path": "/v1/nothing"},
        {"path": "/v1/topics/a%2Fb"},
        {"method": "PATCH", "status": 405},
        {**SEEK, "json": {"to": "now"}, "answer": {"backlog": -1}},
        {**SEEK, "json": {"to": "never"}},
        {**SEEK, "json": {"to": "now", "colour": "red"}},
        {**SEEK, "json": {}},
        SEEK,
        {**SEEK, "json": {"to": "now"}, "path": "/v1/topics/t/subscriptions/%20/seek"},
        {**SEEK, "content": b"<to/>", "extra": {"content-type": "text/xml"}},
        {"path": "/v1/topics/t/messages?limit=0", "status": 200},
        {"path": "/v1/topics/t/subscriptions/s/deliveries", "status": 200},
    ],
    ids=str,
)
def test_what_is_not_as_described_is_noticed(description: Description, wrong: Json) -> None:
    if "extra" in wrong:
        wrong = {key: value for key, value in wrong.items() if key != "extra"}
        answer = exchange(**wrong)
        answer.request.headers["content-type"] = "text/xml"
    else:
        answer = exchange(**wrong)
    assert list(description.faults(answer))


@pytest.mark.parametrize(
    "right",
    [
        {},
        {**SEEK, "json": {"to": "now", "dry_run": None}},
        {"path": "/v1/topics/t/messages?limit=1"},
        {
            "path": "/v1/nothing",
            "answer": {"code": "route_not_found"},
        },
        {
            "method": "PATCH",
            "status": 405,
            "answer": {"code": "method_not_allowed"},
            "headers": {"allow": "GET"},
        },
    ],
    ids=str,
)
def test_what_is_as_described_is_let_pass(description: Description, right: Json) -> None:
    assert list(description.faults(exchange(**right))) == []
