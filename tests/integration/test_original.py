"""The interface of the original example: produce, subscribe, consume."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.api import Api
from support.broker_process import BrokerProcess
from support.eventually import eventually
from support.problem import read_problem


def produce(api: Api, topic: str, body: Any) -> httpx.Response:
    return api.http.post("/produce", json={"Topic": topic, "Body": body})


def subscribe(api: Api, topic: str, subscriber: str) -> httpx.Response:
    return api.http.post("/subscribe", params={"topic": topic, "subscriber": subscriber})


def consume(api: Api, topic: str, subscriber: str) -> httpx.Response:
    return api.http.get("/consume", params={"topic": topic, "subscriber": subscriber}, timeout=30)


def test_what_is_produced_is_consumed_by_every_subscriber_in_order(api: Api, topic: str) -> None:
    for subscriber in ("mail", "audit"):
        for _ in range(2):  # again is fine
            answer = subscribe(api, topic, subscriber)
            assert (answer.status_code, answer.text) == (200, f"Subscribed to {topic}")
    bodies: list[Any] = [{"id": 1, "total": 3.5}, "text", None, [1, 2], 7, True]
    for body in bodies:
        assert produce(api, topic, body).status_code == 200

    for subscriber in ("mail", "audit"):
        answers = [consume(api, topic, subscriber) for _ in bodies]
        assert {each.status_code for each in answers} == {200}
        assert [each.json() for each in answers] == bodies
        assert api.ok_status(topic, subscriber)["backlog"] == 0


def test_consumer_waits_for_the_next_message(api: Api, topic: str) -> None:
    subscribe(api, topic, "mail")
    with ThreadPoolExecutor(1) as pool:
        consuming = pool.submit(consume, api, topic, "mail")
        eventually(lambda: api.ok_status(topic, "mail"))
        assert not consuming.done()
        produce(api, topic, "at last")
        assert consuming.result(timeout=10).json() == "at last"


def test_messages_of_other_doors_are_consumed_too(api: Api, topic: str) -> None:
    subscribe(api, topic, "mail")
    api.ok_publish(topic, {"a": 1})
    api.post(topic, b"plain text", {"content-type": "text/plain"})

    assert consume(api, topic, "mail").json() == {"a": 1}
    assert consume(api, topic, "mail").json() == "plain text"


def test_produced_message_is_one_of_the_log(api: Api, topic: str) -> None:
    produce(api, topic, {"a": 1})

    (stored,) = api.all_messages(topic)
    assert (stored["type"], stored["source"]) == (topic, f"/topics/{topic}")
    assert (stored["datacontenttype"], stored["data"]) == ("application/json", {"a": 1})


def test_unknown_topic_or_subscriber_is_told(api: Api, topic: str) -> None:
    subscribe(api, topic, "mail")
    for place in ((topic, "nobody"), ("none-such", "mail")):
        problem = read_problem(consume(api, *place), 500)
        assert "/subscribe" in problem.detail


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"Topic": 1}', 422),
        (b'{"Topic": "a b"}', 422),
        (b'{"Topic": "\xff"}', 400),
        (b'{"Topic": "t", "Body": "\xff"}', 400),
    ],
)
def test_wrong_production_is_refused(api: Api, content: bytes, status: int) -> None:
    read_problem(api.http.post("/produce", content=content), status)


@pytest.mark.parametrize(
    "query", ["", "?topic=t", "?subscriber=s", "?topic=&subscriber=s", "?topic=a%20b&subscriber=s"]
)
def test_wrong_subscriber_is_refused(api: Api, query: str) -> None:
    read_problem(api.http.post(f"/subscribe{query}"), 422)


def test_what_was_produced_outlives_a_kill(restartable: BrokerProcess) -> None:
    subscribe(restartable.api, "kept", "mail")
    produce(restartable.api, "kept", 1)
    produce(restartable.api, "kept", 2)
    assert consume(restartable.api, "kept", "mail").json() == 1
    restartable.kill()
    restartable.start()

    assert consume(restartable.api, "kept", "mail").json() == 2
