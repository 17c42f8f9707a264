"""`GET …/stream`: live, resumable, many at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from support.api import Api
from support.broker_process import BrokerProcess
from support.eventually import eventually
from support.problem import read_problem

WATCHERS = 1000


@contextmanager
def watching(
    api: Api, topic: str, headers: dict[str, str] | None = None, **query: Any
) -> Iterator[Iterator[ServerSentEvent]]:
    """Watch a topic; what comes is read as it comes."""
    with (
        httpx.Client(base_url=api.base_url, trust_env=False, timeout=30) as http,
        connect_sse(
            http, "GET", f"/v1/topics/{topic}/stream", headers=headers or {}, params=query
        ) as source,
    ):
        assert source.response.status_code == 200
        assert source.response.headers["x-request-id"]
        yield source.iter_sse()


def test_message_comes_as_it_is_stored(api: Api, topic: str) -> None:
    api.put_topic(topic)
    api.ok_publish(topic, "before")
    with watching(api, topic) as events:
        sequence = api.ok_publish(topic, {"a": "é\n"}, key="k")
        sent = next(events)

    assert (sent.id, sent.event) == (str(sequence), "message")
    assert json.loads(sent.data) == api.get_message(topic, sequence).json()


def test_stream_resumes_with_nothing_missed(api: Api, topic: str) -> None:
    for number in range(600):  # more than one page
        api.ok_publish(topic, number)

    with watching(api, topic, {"Last-Event-ID": "5"}) as events:
        ids = [int(next(events).id) for _ in range(595)]
        api.ok_publish(topic, 600)
        ids.append(int(next(events).id))

    assert ids == [*range(6, 602)]


def test_stream_begins_where_it_is_asked_to(api: Api, topic: str) -> None:
    for number in range(3):
        api.ok_publish(topic, number)

    with watching(api, topic, after=1) as events:
        assert [next(events).id, next(events).id] == ["2", "3"]
    with watching(api, topic, {"Last-Event-ID": "2"}, after=1) as events:
        assert next(events).id == "3"


@pytest.mark.parametrize("stored_before", [True, False])
def test_stream_lets_only_a_key_or_type_through(api: Api, topic: str, stored_before: bool) -> None:
    def publish() -> None:
        for key, type_ in (("a", "x"), ("b", "x"), ("a", "y"), ("b", "y"), ("a", "x")):
            api.ok_publish(topic, None, key=key, type=type_)

    api.put_topic(topic)
    if stored_before:
        publish()
    with (
        watching(api, topic, after=0, key="a") as keyed,
        watching(api, topic, after=0, key="a", type="x") as both,
    ):
        if not stored_before:
            publish()
        assert [next(keyed).id for _ in range(3)] == ["1", "3", "5"]
        assert [next(both).id for _ in range(2)] == ["1", "5"]


def test_data_of_several_lines_arrives_in_one(api: Api, topic: str) -> None:
    api.put_topic(topic)
    with watching(api, topic) as events:
        api.post(topic, b'{\n  "a": 1\r\n}', {"content-type": "application/json"})
        sent = next(events)

    assert json.loads(sent.data)["data"] == {"a": 1}
    assert "\n" not in sent.data


def test_stream_ends_with_its_topic(api: Api, topic: str) -> None:
    api.put_topic(topic)
    with watching(api, topic) as events:
        api.delete_topic(topic)
        assert list(events) == []


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ({"after": "x"}, {}, "after"),
        ({"after": "-1"}, {}, "after"),
        ({"after": str(2**60)}, {}, "after"),
        ({"since": "1"}, {}, "since"),
        ({}, {"Last-Event-ID": "one"}, "Last-Event-ID"),
    ],
)
def test_wrong_beginning_is_refused(
    api: Api, topic: str, query: dict[str, str], headers: dict[str, str], field: str
) -> None:
    api.put_topic(topic)
    answer = api.http.get(f"/v1/topics/{topic}/stream", params=query, headers=headers)

    assert read_problem(answer, 422).fields == [field]


def test_unknown_topic_is_refused(api: Api) -> None:
    answer = api.http.get("/v1/topics/none-such/stream")

    assert read_problem(answer, 404).code == "topic_not_found"


def test_stop_ends_streams_at_once(restartable: BrokerProcess) -> None:
    api = restartable.api
    api.put_topic("watched")
    with watching(api, "watched") as events, ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, events)
        restartable.stop()
        assert rest.result(timeout=1) == []


def test_thousand_watchers_all_see_everything_without_a_thread_each(
    broker: BrokerProcess, topic: str
) -> None:
    broker.api.put_topic(topic)
    threads = broker.worker().num_threads()

    async def watch(http: httpx.AsyncClient, ready: asyncio.Semaphore) -> list[str]:
        ids = []
        async with http.stream("GET", f"/v1/topics/{topic}/stream") as answer:
            ready.release()
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    ids.append(line)
                if len(ids) == 3:
                    return ids
        return ids

    async def run() -> tuple[list[list[str]], int]:
        limits = httpx.Limits(max_connections=None)
        ready = asyncio.Semaphore(0)
        async with httpx.AsyncClient(
            base_url=broker.base_url, trust_env=False, timeout=60, limits=limits
        ) as http:
            tasks = [asyncio.create_task(watch(http, ready)) for _ in range(WATCHERS)]
            for _ in range(WATCHERS):
                await ready.acquire()
            peak = broker.worker().num_threads()
            for number in range(3):
                await asyncio.to_thread(broker.api.ok_publish, topic, number)
            return await asyncio.gather(*tasks), peak

    seen, peak = asyncio.run(run())

    assert seen == [["id: 1", "id: 2", "id: 3"]] * WATCHERS
    assert peak < threads + 20


def test_watcher_that_does_not_read_costs_bounded_memory(broker: BrokerProcess, topic: str) -> None:
    api = broker.api
    api.put_topic(topic)
    piece = b"x" * 500_000
    with watching(api, topic) as events:
        before = broker.worker().memory_info().rss
        for _ in range(200):
            api.post(topic, piece, {"content-type": "text/plain"})
        grown = broker.worker().memory_info().rss - before
        # The newest part of the log is kept for all watchers together: 32 MiB.
        assert grown < 80 * 1024 * 1024, grown
        assert [int(next(events).id) for _ in range(200)] == [*range(1, 201)]


def test_watcher_that_left_is_forgotten(broker: BrokerProcess, topic: str) -> None:
    api = broker.api
    api.put_topic(topic)
    before = broker.worker().num_fds()
    for _ in range(20):
        with watching(api, topic):
            pass

    eventually(lambda: broker.worker().num_fds() <= before + 5)
