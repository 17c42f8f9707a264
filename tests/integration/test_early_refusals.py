"""A request that is refused before all of it has come: the refusal can be read, and what follows.

An ordinary client sends all that it has and reads only then. It may be sending for long after the
broker has answered.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from broker.api.pull import MAX_BODY_BYTES
from broker.cli.protocol import LINGER_BYTES
from support.broker_process import BrokerProcess

MIB = 1024 * 1024
PULL = b"POST /v1/topics/t/subscriptions/s/pull HTTP/1.1\r\nhost: x\r\n"
PUT = b"PUT /v1/topics/t HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
PUBLISH = b"POST /v1/topics/t/messages HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


def length(size: int) -> bytes:
    return b"content-length: %d\r\n" % size


EARLY = {
    "pull": (PULL + length(8 * MIB) + b"\r\n", 413),
    "control plane": (PUT + length(8 * MIB) + b"\r\n", 413),
    "publish": (PUBLISH + length(8 * MIB) + b"\r\n", 413),
    "chunks": (PUBLISH + CHUNKED + b"900000\r\n" + b"x" * (7 * MIB), 413),
    "broken chunk": (PUBLISH + CHUNKED + b"no size\r\n", 400),
    "long header": (b"%sa: %s" % (PUT + length(8 * MIB), b"b" * 9000), 431),
    "waits to be told to go on": (PULL + length(8 * MIB) + b"expect: 100-continue\r\n\r\n", 413),
}


@pytest.fixture
def connection(broker: BrokerProcess) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", broker.port), timeout=30)) as dialled:
        yield dialled


def read_to_the_end(connection: socket.socket) -> bytes:
    """Read until the broker says that it sends no more."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def read_one(connection: socket.socket) -> bytes:
    """Read one answer, by its length."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    size = int(re.findall(rb"(?i)\r\ncontent-length: (\d+)", head)[0])
    while len(body) < size:
        body += connection.recv(65536)
    return head


@pytest.mark.parametrize(("begun", "status"), EARLY.values(), ids=EARLY.keys())
def test_refused_client_may_send_the_rest(
    connection: socket.socket, begun: bytes, status: int
) -> None:
    """If the connection were reset by now, the answer might be lost: sending would fail."""
    connection.sendall(begun)

    answer = read_to_the_end(connection)

    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"%d" % status]
    assert b"\r\nconnection: close\r\n" in answer.lower()
    for _ in range(8):
        connection.sendall(b"x" * MIB)


def test_refused_client_that_never_stops_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(PULL + length(1024 * LINGER_BYTES) + b"\r\n")
    assert read_to_the_end(connection).startswith(b"HTTP/1.1 413 ")

    with pytest.raises(ConnectionError):
        connection.sendall(bytes(2 * LINGER_BYTES))


def test_request_after_an_early_refusal_is_answered(broker: BrokerProcess, topic: str) -> None:
    """The client that keeps its connections is told which one is not to be used again."""
    good, too_long = b"{}".ljust(MIB), b"{}".ljust(MAX_BODY_BYTES + 1)
    broker.api.put_topic(topic)
    broker.api.put_subscription(topic, "s")
    with httpx.Client(base_url=broker.base_url, trust_env=False, timeout=30) as http:
        for _ in range(50):
            pull = f"/v1/topics/{topic}/subscriptions/s/pull"
            assert http.post(pull, content=too_long).status_code == 413
            assert http.put(f"/v1/topics/{topic}", content=good).status_code == 200


def test_connection_is_kept_where_all_of_a_refused_request_had_come(
    connection: socket.socket,
) -> None:
    refused = PUT + length(100_000) + b"\r\n" + b"{".ljust(100_000)
    for request in (refused, refused, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"):
        connection.sendall(request)
        answer = read_one(connection)
        assert b"\r\nconnection: close" not in answer.lower()


def test_refused_client_that_stays_holds_up_no_stop(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    with closing(broker.start()):
        dialled = socket.create_connection(("127.0.0.1", broker.port), timeout=30)
        with closing(dialled):
            dialled.sendall(PULL + length(8 * MIB) + b"\r\n")
            assert read_to_the_end(dialled).startswith(b"HTTP/1.1 413 ")

            assert broker.stop() == 0

        assert "Forcing close" not in broker.log()
