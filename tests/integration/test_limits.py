"""What may be at most: each limit is reached and then exceeded, and each stands in the table."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker import (
    api_keys,
    cloudevents,
    pulls,
    schema,
    schema_cost,
    scopes,
    service,
    sessions,
    streams,
    subscription,
)
from broker.api import asgi, publish, under_way
from broker.api import pull as pull_api
from broker.cli import protocol, serve, worker
from broker.config import Settings
from broker.dashboard import guesses
from broker.dispatch import frames, memory
from broker.dispatch.answer import MAX_DISCARDED_BYTES
from broker.filters import dialects, evaluation, expression
from broker.rpc import patience, port
from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import BATCH, STRUCTURED, event
from support.eventually import eventually
from support.problem import read_problem

ROOT = Path(__file__).resolve().parents[2]
JSON = "application/json"
MIB = 1024 * 1024
WHSEC = "whsec_" + "A" * 32


def bytes_(count: int) -> str:
    """Write a number of bytes as the table has it."""
    return f"{count // MIB} MiB" if count % MIB == 0 else f"{count // 1024} KiB"


def count(number: int) -> str:
    return f"{number:,}"


def seconds(duration: float) -> str:
    return f"{duration:g} s"


LIMITS = {
    "data of a message": bytes_(Settings().max_message_bytes),
    "body of a batch": bytes_(Settings().max_batch_bytes),
    "messages in a batch": count(cloudevents.MAX_BATCH_EVENTS),
    "attributes of a message": count(cloudevents.MAX_ATTRIBUTES),
    "attributes of a message, together": bytes_(service.MAX_ATTRIBUTES_BYTES),
    "an `Idempotency-Key`": count(publish.MAX_ID),
    "levels of data that a schema is for": count(schema.MAX_DEPTH),
    "topics": count(service.MOST_TOPICS),
    "subscriptions of a topic": count(service.MOST_SUBSCRIPTIONS),
    "headers of a subscription": count(subscription.MAX_HEADERS),
    "filters of a subscription": count(dialects.MOST_FILTERS),
    "filters of a subscription, together": bytes_(dialects.MOST_BYTES),
    "levels of filters": count(dialects.MOST_NESTING),
    "characters of a CESQL expression": count(expression.MOST_CHARACTERS),
    "levels of a CESQL expression": count(expression.MOST_DEPTH),
    "steps that a subscription's filters take for a message": count(evaluation.MOST_STEPS),
    "a topic's schema, and any body of the control plane": bytes_(asgi.MAX_CONTROL_BYTES),
    "checks of a schema's parts that data can need": count(schema_cost.MOST_CHECKS),
    "body of `pull`, `ack`, `nack`, `extend`": bytes_(pull_api.MAX_BODY_BYTES),
    "deliveries in a pull": count(pulls.MAX_MESSAGES),
    "ack ids in a request": count(pulls.MAX_ACK_IDS),
    "messages on a page": count(service.MAX_PAGE),
    "API keys": count(api_keys.MAX_KEYS),
    "scopes of a key": count(scopes.MAX_SCOPES),
    "open connections": count(serve.MOST_CONNECTIONS),
    "streams: SSE, and gRPC's `Watch`, `StreamingPull`, `PublishStream`": count(
        streams.MOST_STREAMS
    ),
    "gRPC calls at once": count(port.MOST_CALLS),
    "gRPC calls of one connection": count(port.MOST_CALLS_OF_A_CONNECTION),
    "first head of a connection": seconds(protocol.HEAD_S),
    "pause between two requests": seconds(serve.KEEP_ALIVE_S),
    "pause between two requests while the broker stops": seconds(worker.AT_REST_S),
    "bodies of requests under way, together": bytes_(
        under_way.most_bytes(Settings().max_batch_bytes)
    ),
    "a request's body": seconds(publish.BODY_S),
    "rest of a refused request": bytes_(protocol.LINGER_BYTES),
    "time in which the rest of a refused request may come": seconds(protocol.LINGER_S),
    "time in which a client takes nothing of an answer": seconds(protocol.STALL_S),
    "an endpoint's answer that is read": bytes_(MAX_DISCARDED_BYTES),
    "an endpoint's answer that is kept": bytes_(frames.MAX_ANSWER_BYTES),
    "memory of what a subscription has out": bytes_(memory.MOST_BYTES),
    "wrong keys of an address a minute, at the dashboard": count(guesses.MOST),
    "sessions of a key at the dashboard": count(sessions.MOST_OF_A_KEY),
}


def table() -> list[list[str]]:
    """Return the cells of the table of limits."""
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.partition("\n## Limits\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1:]]


def test_table_has_every_limit_as_it_is() -> None:
    assert patience.STALL_S == protocol.STALL_S
    told = {row[0]: re.sub(r" \(.*", "", row[1]) for row in table() if row[0] in LIMITS}
    assert told == LIMITS
    others = {row[0] for row in table()} - LIMITS.keys()
    assert others == {"a name", "request line", "headers of a request", "a header of a request"}


def test_table_names_tests_that_are_there() -> None:
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for row in table():
        named = re.findall(r"test_\w+\.py", row[3])
        assert named, row
        assert set(named) <= files


# -- requests --------------------------------------------------------------------------------------


def numbered(n: int) -> list[dict[str, Any]]:
    return [event(id=str(each)) for each in range(n)]


def attributes(n: int) -> dict[str, Any]:
    """An event with so many attributes."""
    plain = event()
    plain.pop("data", None)
    return {**plain, **{f"x{each}": "" for each in range(n - len(plain))}}


def long_attributes(n: int, topic: str) -> dict[str, Any]:
    """An event whose attributes, as they are stored, have so many bytes."""
    plain = {"specversion": "1.0", "id": "a", "source": "/s", "type": "t", "subject": ""}
    size = len(json.dumps(plain, separators=(",", ":")))
    return {**plain, "subject": "x" * (n - size)}


Sent = Callable[[Api, str, int], httpx.Response]
REQUESTS: dict[str, tuple[Sent, int, int, str]] = {
    "data": (
        lambda api, topic, n: api.post(topic, b"x" * n, {"content-type": "text/plain"}),
        *(MIB, 413, "message_too_large"),
    ),
    "batch": (
        lambda api, topic, n: api.publish_batch(topic, numbered(n)),
        *(1000, 422, "invalid_request"),
    ),
    "batch's bytes": (
        lambda api, topic, n: api.post(
            topic, json.dumps(numbered(1)).encode().ljust(n), {"content-type": BATCH}
        ),
        *(16 * MIB, 413, "message_too_large"),
    ),
    "attributes": (
        lambda api, topic, n: api.publish_event(topic, attributes(n)),
        *(100, 422, "invalid_request"),
    ),
    "idempotency key": (
        lambda api, topic, n: api.publish(topic, 1, headers={"idempotency-key": "k" * n}),
        *(1024, 422, "invalid_request"),
    ),
    "name of a topic": (
        lambda api, topic, n: api.put_topic(f"{topic}-".ljust(n, "x")),
        *(128, 422, "invalid_request"),
    ),
    "name of a subscription": (
        lambda api, topic, n: api.put_subscription(topic, "s" * n),
        *(128, 422, "invalid_request"),
    ),
    "headers of a subscription": (
        lambda api, topic, n: api.put_subscription(
            topic, "s", headers={f"x-{each}": "" for each in range(n)}
        ),
        *(50, 422, "invalid_request"),
    ),
    "a header of a subscription": (
        lambda api, topic, n: api.put_subscription(topic, "s", headers={"x-a": "v" * n}),
        *(4096, 422, "invalid_request"),
    ),
    "filters": (
        lambda api, topic, n: api.put_subscription(
            topic, "s", filters=[{"exact": {"type": "t"}}] * n
        ),
        *(100, 422, "invalid_request"),
    ),
    "characters of an expression": (
        lambda api, topic, n: api.put_subscription(
            topic, "s", filters=[{"sql": "type = 'a'".ljust(n)}]
        ),
        *(4096, 422, "invalid_request"),
    ),
    "body of the control plane": (
        lambda api, topic, n: api.http.put(
            f"/v1/topics/{topic}", content=b"{}".ljust(n), headers={"content-type": JSON}
        ),
        *(MIB, 413, "message_too_large"),
    ),
    "body of a pull": (
        lambda api, topic, n: api.http.post(
            f"/v1/topics/{topic}/subscriptions/pulled/pull", content=b"{}".ljust(n)
        ),
        *(4 * MIB, 413, "message_too_large"),
    ),
    "deliveries in a pull": (
        lambda api, topic, n: api.act(topic, "pull", "pulled", {"max_messages": n}),
        *(1000, 422, "invalid_request"),
    ),
    "ack ids": (
        lambda api, topic, n: api.act(topic, "ack", "pulled", {"ack_ids": ["x"] * n}),
        *(10_000, 422, "invalid_request"),
    ),
    "messages on a page": (
        lambda api, topic, n: api.browse(topic, limit=n),
        *(1000, 422, "invalid_request"),
    ),
    "scopes": (
        lambda api, topic, n: api.http.post(
            "/v1/keys",
            json={"name": topic, "scopes": [f"read:{each}" for each in range(n)]},
        ),
        *(50, 422, "invalid_request"),
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_request_is_taken_at_the_limit_and_refused_beyond(api: Api, topic: str, what: str) -> None:
    send, most, status, code = REQUESTS[what]
    good(api.put_topic(topic))
    good(api.put_subscription(topic, "pulled"))

    beyond = read_problem(send(api, topic, most + 1), status)
    assert beyond.code == code
    assert send(api, topic, most).is_success, send(api, topic, most).text[:500]
    if what == "name of a topic":
        api.delete_topic(f"{topic}-".ljust(most, "x"))


def test_attributes_are_limited_together(api: Api, topic: str) -> None:
    """Ends within a few bytes of the limit, for what is stored is written anew."""
    near = 64 * 1024 - 100
    good(api.publish_event(topic, long_attributes(near, topic)))
    refused = api.publish_event(topic, long_attributes(64 * 1024 + 100, topic))
    assert read_problem(refused, 413).code == "message_too_large"


def test_keys_are_limited(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    with closing(broker.start()):
        for n in range(api_keys.MAX_KEYS):
            body = {"name": f"key-{n}", "scopes": ["read:*"]}
            good(broker.api.http.post("/v1/keys", json=body))
        one_more = broker.api.http.post("/v1/keys", json={"name": "more", "scopes": ["read:*"]})
        assert "at most 1000 keys" in read_problem(one_more, 422).detail


@pytest.mark.parametrize("depth", [500, 100_000])
@pytest.mark.parametrize("content_type", [JSON, STRUCTURED])
def test_json_of_any_depth_is_stored_or_refused(
    api: Api, topic: str, depth: int, content_type: str
) -> None:
    nested = "[" * depth + "]" * depth
    body = nested
    if content_type == STRUCTURED:
        body = json.dumps(event(data="?")).replace('"?"', nested)
    answer = api.post(topic, body.encode(), {"content-type": content_type})
    if answer.status_code != 201:
        assert depth > 500
        assert read_problem(answer, 400).code == "malformed_request"


# -- heads -----------------------------------------------------------------------------------------


def status_of(broker: BrokerProcess, request: bytes) -> int:
    """Send a request as it is; return the status of the answer."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=15) as connection:
        connection.sendall(request)
        line = connection.makefile("rb").readline()
    return int(line.split()[1])


HEAD = b"GET /healthz?%s HTTP/1.1\r\nhost: x\r\n%s\r\n"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        (b"q" * 4000, b"", 200),
        (b"q" * 4100, b"", 414),
        (b"", b"a: b\r\n" * 90, 200),
        (b"", b"a: b\r\n" * 110, 431),
        (b"", b"a: %s\r\n" % (b"b" * 8000), 200),
        (b"", b"a: %s\r\n" % (b"b" * 8300), 431),
    ],
)
def test_head_is_limited(broker: BrokerProcess, query: bytes, headers: bytes, status: int) -> None:
    assert status_of(broker, HEAD % (query, headers)) == status


# -- connections -----------------------------------------------------------------------------------


def test_connections_are_as_many_as_files_allow_and_no_more(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    broker.within = ("sh", "-c", 'ulimit -n 300 && exec "$@"', "sh")
    most = 300 - serve.RESERVED_FILES
    with ExitStack() as opened, closing(broker.start()):
        broker.api.close()

        def dial() -> socket.socket:
            dialled = socket.create_connection(("127.0.0.1", broker.port), timeout=15)
            return opened.enter_context(closing(dialled))

        def asked(connection: socket.socket) -> bytes:
            connection.sendall(b"GET /v1/topics/none HTTP/1.1\r\nhost: x\r\n\r\n")
            return connection.recv(65536)

        def all_refused() -> bool:
            return asked(dial()).startswith(b"HTTP/1.1 503 ")

        held = [dial() for _ in range(most)]
        assert all(asked(each).startswith(b"HTTP/1.1 404 ") for each in held)
        eventually(all_refused)
        for each in held:
            each.close()
        eventually(lambda: asked(dial()).startswith(b"HTTP/1.1 404 "))


@pytest.fixture
def stream_of(broker: BrokerProcess, topic: str) -> Iterator[Callable[[], httpx.Response]]:
    """Open streams, which are closed afterwards."""
    broker.api.put_topic(topic)
    with ExitStack() as opened:
        limits = httpx.Limits(max_connections=None)
        http = opened.enter_context(
            httpx.Client(base_url=broker.base_url, trust_env=False, timeout=30, limits=limits)
        )
        yield lambda: opened.enter_context(http.stream("GET", f"/v1/topics/{topic}/stream"))


def test_streams_are_limited(stream_of: Callable[[], httpx.Response]) -> None:
    """Others of this broker's tests may still be closing theirs."""
    for _ in range(streams.MOST_STREAMS):
        answer = stream_of()
        if answer.status_code != 200:
            break
    answer = stream_of()
    answer.read()
    assert read_problem(answer, 503).code == "too_many_streams"
    assert answer.headers["retry-after"] == "5"
