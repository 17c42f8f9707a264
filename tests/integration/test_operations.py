"""Health, request ids, and refusals that belong to no single call."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import BinaryIO

import httpx
import pytest

from support.api import Api
from support.broker_process import BrokerProcess
from support.problem import read_problem

Call = Callable[[Api], httpx.Response]

# One of each kind: the fast path, the control plane, an answer, a refusal, a missing route.
CALLS: dict[str, Call] = {
    "publish": lambda api: api.publish("request-ids", 1),
    "refused publish": lambda api: api.publish_event("request-ids", {}),
    "topic": lambda api: api.put_topic("request-ids"),
    "unknown topic": lambda api: api.get_topic("request-ids-unknown"),
    "unknown route": lambda api: api.http.get("/v1/nothing"),
    "wrong method": lambda api: api.http.patch("/v1/topics/request-ids"),
    "health": lambda api: api.http.get("/healthz"),
    "readiness": lambda api: api.http.get("/readyz"),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_running_broker_is_healthy_and_ready(api: Api, path: str) -> None:
    assert api.http.get(path).status_code == 200
    assert api.http.head(path).status_code == 200


@calls
def test_every_answer_has_a_request_id_of_its_own(api: Api, call: Call) -> None:
    first, second = call(api), call(api)

    assert first.headers["x-request-id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@calls
def test_request_id_of_the_caller_is_echoed(api: Api, call: Call) -> None:
    api.http.headers["x-request-id"] = "caller-17"
    try:
        assert call(api).headers["x-request-id"] == "caller-17"
    finally:
        del api.http.headers["x-request-id"]


@pytest.mark.parametrize("value", ["x" * 5000, "a b\x7f", "<script>", "\xe9"])
def test_strange_request_id_does_no_harm(api: Api, value: str) -> None:
    answer = api.http.get("/v1/topics", headers={b"x-request-id": value.encode("latin-1")})

    assert answer.status_code in (200, 400, 431)
    assert answer.headers.get("x-request-id") or answer.status_code != 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v2/topics",
        "/v1/topics/t/nothing",
        "/v1/topics/t/messages/1/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_route_is_a_problem(api: Api, method: str, path: str) -> None:
    read_problem(api.http.request(method, path), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/topics/request-ids"),
        ("PATCH", "/v1/topics/request-ids"),
        ("POST", "/v1/topics"),
        ("DELETE", "/v1/topics"),
        ("DELETE", "/v1/topics/request-ids/messages"),
        ("PATCH", "/v1/topics/request-ids/messages"),
        ("POST", "/v1/topics/request-ids/subscriptions/s"),
        ("POST", "/healthz"),
    ],
)
def test_wrong_method_is_a_problem_that_names_the_right_ones(
    api: Api, method: str, path: str
) -> None:
    answer = api.http.request(method, path)

    read_problem(answer, 405)
    assert method not in answer.headers["allow"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[1,", b"'x'"])
@pytest.mark.parametrize("path", ["/v1/topics/malformed", "/v1/topics/malformed/subscriptions/s"])
def test_malformed_json_is_a_problem(api: Api, path: str, body: bytes) -> None:
    answer = api.http.put(path, content=body, headers={"content-type": "application/json"})

    assert "json" in read_problem(answer, 400).text
    assert api.get_topic("malformed").status_code == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nZ\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=lambda raw: raw[:60].decode(),
)
def test_broken_http_gets_no_2xx_and_does_no_harm(broker: BrokerProcess, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(raw)
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b""

    assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))
    assert b"Traceback" not in answer
    assert broker.is_ready()


def test_pipelined_publishes_are_answered_in_order(broker: BrokerProcess) -> None:
    one = (
        b"POST /v1/topics/pipelined/messages HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 1\r\n\r\n%d"
    )
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
        connection.sendall(b"".join(one % n for n in range(3)))
        reader = connection.makefile("rb")
        statuses = [_read_status(reader) for _ in range(3)]

    assert statuses == [201, 201, 201]
    stored = [message["data"] for message in broker.api.all_messages("pipelined")]
    assert stored == ["0", "1", "2"]


def test_publish_waits_for_a_continue_when_asked(broker: BrokerProcess, topic: str) -> None:
    head = (
        f"POST /v1/topics/{topic}/messages HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
        connection.sendall(head.encode())
        reader = connection.makefile("rb")
        assert reader.readline().split()[1] == b"100"
        assert reader.readline() == b"\r\n"
        connection.sendall(b"hello")
        assert _read_status(reader) == 201

    assert [message["data"] for message in broker.api.all_messages(topic)] == ["hello"]


def test_publish_in_http_1_0_is_answered_and_closed(broker: BrokerProcess, topic: str) -> None:
    request = f"POST /v1/topics/{topic}/messages HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
        connection.sendall(request.encode())
        answer = connection.makefile("rb").read()

    assert answer.split()[1] == b"201"


def test_answers_are_json(api: Api, topic: str) -> None:
    api.ok_publish(topic, 1)

    for path in (f"/v1/topics/{topic}", f"/v1/topics/{topic}/messages", "/v1/topics"):
        assert api.http.get(path).headers["content-type"].startswith("application/json")


def _read_status(reader: BinaryIO) -> int:
    """Read one answer off a connection and give its status."""
    status = int(reader.readline().split()[1])
    length = 0
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    reader.read(length)
    return status
