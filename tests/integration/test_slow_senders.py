"""Whoever sends slowly waits alone, and not for ever."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess

Dial = Callable[[bytes], socket.socket]
SLOW = 30  # more than there are threads for what is answered in one
BEGUN = b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"


@pytest.fixture
def dial(broker: BrokerProcess) -> Iterator[Dial]:
    """Open connections, which are closed afterwards."""
    with ExitStack() as opened:

        def open_one(data: bytes) -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", broker.port))
            opened.enter_context(closing(connection))
            connection.sendall(data)
            return connection

        yield open_one


@pytest.mark.parametrize(
    "request_line",
    [
        b"PUT /v1/topics/t HTTP/1.1",
        b"POST /v1/topics/t/messages HTTP/1.1",
        b"POST /v1/topics/t/subscriptions/s/pull HTTP/1.1",
        b"POST /login HTTP/1.1",
    ],
)
def test_bodies_that_do_not_come_hold_up_nobody(
    api: Api, topic: str, dial: Dial, request_line: bytes
) -> None:
    for _ in range(SLOW):
        dial(request_line + b"\r\nhost: x\r\n" + BEGUN)

    good(api.put_topic(topic))
    assert api.http.get("/readyz").status_code == 200
    api.ok_publish(topic, 1)


def test_head_that_does_not_come_ends_the_connection(dial: Dial) -> None:
    connections = [dial(data) for data in (b"", b"POST /v1/top")]
    for connection in connections:
        connection.settimeout(60)
        assert connection.recv(1) == b""
