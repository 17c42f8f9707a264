"""Requests damaged at random: an answer or a closed connection, and no harm to anybody else.

What is known to be ambiguous has its tests in test_framing.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.broker_process import BrokerProcess

EXAMPLES = 100
DEADLINE_S = 15.0
SILENCE_S = 0.1
"""How long nothing comes before a damaged request counts as one that waits for more."""

EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":[1]}'
PRODUCED = b'{"Topic": "MANGLED", "Body": {"a": 1}}'


def request(line: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    """Write a request."""
    lines = [line + b" HTTP/1.1", b"Host: x", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\ndata\r\n0\r\nX-Trailer: 1"
WHOLE = (
    request(b"GET /v1/topics/mangled/messages?after=0&limit=1"),
    request(
        b"POST /v1/topics/mangled/messages", b"text", b"Content-Type: text/plain", b"ce-x: %C3"
    ),
    request(
        b"POST /v1/topics/mangled/messages", EVENT, b"Content-Type: application/cloudevents+json"
    ),
    request(
        b"POST /v1/topics/mangled/messages",
        b"[%s]" % EVENT,
        b"Content-Type: application/cloudevents-batch+json",
    ),
    request(b"POST /v1/topics/mangled/messages", b"", CHUNKED),
    request(
        b"PUT /v1/topics/mangled/subscriptions/s",
        b'{"endpoint": null, "max_in_flight": 5}',
        b"Content-Type: application/json",
    ),
    request(b"POST /v1/topics/mangled/subscriptions/s/pull", b'{"max_messages": 1}'),
    request(b"POST /v1/topics/mangled/subscriptions/s/ack", b'{"ack_ids": ["AAAA"]}'),
    request(b"POST /v1/acks/mangled/s/AAAA", b'{"verdict": "ack"}'),
    request(b"POST /produce", PRODUCED),
    request(b"POST /subscribe?topic=MANGLED&subscriber=s"),
    request(b"GET /", b"", b"Cookie: session=x", b"Accept: text/html"),
    request(b"POST /login", b"key=x", b"Content-Type: application/x-www-form-urlencoded"),
    request(b"DELETE /v1/topics/nowhere?force=true", b"", b"Authorization: Bearer brk_x"),
)
PARTS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b"\0", b"\xff", b"%00", b"%ff"),
        *(b"\xc3\x28", b"\xed\xa0\x80", b"{", b"[" * 5000, b'"', b"\\ud800", b"x" * 9000),
        *(b"Content-Length: 3\r\n", b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n"),
        *(b"HTTP/1.0", b"HTTP/2.0", b"GET", b"OPTIONS * ", b"CONNECT ", b"HEAD ", b"/../", b"//"),
        *(b"ce-id: a\r\n", b"ce-time: x\r\n", b"Content-Type: application/json\r\n", b"-1", b"1e9"),
    ]
)


@dataclass(frozen=True, slots=True)
class Damage:
    """One change: some bytes at a place, a share of the whole, give way to others."""

    place: float
    gone: int
    new: bytes

    def applied(self, whole: bytes) -> bytes:
        """Return what is left."""
        at = int(self.place * len(whole))
        return whole[:at] + self.new + whole[at + self.gone :]


damages = st.lists(
    st.builds(
        Damage,
        st.floats(0, 1),
        st.sampled_from([0, 0, 1, 2, 5, 40]),
        PARTS | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def mangled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for damaged requests alone."""
    running = BrokerProcess(tmp_path_factory.mktemp("mangled")).start()
    yield running
    running.close()


_serial = count(1)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(WHOLE), damages)
@example(request(b"POST /produce", b'{"Topic": "\xff"}'), [])
@example(request(b"POST /v1/topics/m/subscriptions/s/ack", b'{"ack_ids": ["\xff"]}'), [])
@example(WHOLE[4], [Damage(1.0, 0, b"0\r\n\r\n")])
def test_damaged_request_hurts_nobody(
    mangled: BrokerProcess, whole: bytes, damage: Sequence[Damage]
) -> None:
    damaged = whole
    for each in damage:
        damaged = each.applied(damaged)
    before, beside = next(_serial), next(_serial)

    with connected(mangled) as connection, connected(mangled) as other:
        connection.sendall(plain_request(before) + damaged)
        other.sendall(plain_request(beside))
        check_own(next(answers(other)), beside)
        came = answers(connection)
        check_own(next(came), before)
        connection.settimeout(SILENCE_S)
        for answer in came:
            assert answer.status != 500, answer
            assert answer.status < 600


def test_broker_that_got_them_all_says_of_no_fault_of_its_own(mangled: BrokerProcess) -> None:
    assert mangled.api.http.get("/readyz").status_code == 200
    assert '"level": "error"' not in mangled.log()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    request_id: str
    body: bytes


def connected(broker: BrokerProcess) -> Any:
    """Open a connection, which is closed afterwards."""
    return closing(socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE_S))


def plain_request(number: int) -> bytes:
    """Write a request whose answer can be told from all others."""
    return request(b"GET /v1/topics/nowhere-%d" % number, b"", b"X-Request-Id: id-%d" % number)


def check_own(answer: Answer, number: int) -> None:
    """Insist on the answer to that request."""
    assert (answer.status, answer.request_id) == (404, f"id-{number}")
    assert f'"nowhere-{number}"' in json.loads(answer.body)["detail"]


def answers(connection: socket.socket) -> Iterator[Answer]:
    """Read the answers on a connection, until it is closed or silent."""
    left = b""
    while True:
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        reader.send(h11.EndOfMessage())
        if left:  # nothing at all would be the end of the connection
            reader.receive_data(left)
        status, request_id, body = 0, "", b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                try:
                    data = connection.recv(65536)
                except (TimeoutError, ConnectionError):
                    return
                if not data and status == 0:
                    return
                reader.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                request_id = dict(event.headers).get(b"x-request-id", b"").decode()
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        yield Answer(status, request_id, body)
        left, _ = reader.trailing_data
