"""Where one request ends and the next begins: what two readers could see differently is refused.

Sources: RFC 9112, sections 2.2, 3, 5, 6 and 7.1, and its section 11.2 on request smuggling.
"""

from __future__ import annotations

import re
import socket

import pytest

from support.broker_process import BrokerProcess

SMUGGLED = (
    b"POST /v1/topics/smuggled/messages HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx"
)
ENDED = b"0\r\n\r\n" + SMUGGLED
LENGTH = b"Content-Length: %d" % len(ENDED)
CHUNKED = b"Transfer-Encoding: chunked"

AMBIGUOUS_HEADERS = {
    "length then chunked": [LENGTH, CHUNKED],
    "chunked then length": [CHUNKED, LENGTH],
    "two lengths": [b"Content-Length: 0", LENGTH],
    "two lengths in one": [b"Content-Length: 0, %d" % len(ENDED)],
    "signed length": [b"Content-Length: +%d" % len(ENDED)],
    "negative length": [b"Content-Length: -1"],
    "hexadecimal length": [b"Content-Length: 0x10"],
    "length in two words": [b"Content-Length: 1 0"],
    "length with an underscore": [b"Content-Length: 1_0"],
    "length in other digits": ["Content-Length: ٣".encode()],
    "empty length": [b"Content-Length:"],
    "endless length": [b"Content-Length: " + b"9" * 400],
    "unknown coding": [b"Transfer-Encoding: xchunked", LENGTH],
    "identity and a length": [b"Transfer-Encoding: identity", LENGTH],
    "chunked is not last": [b"Transfer-Encoding: chunked, identity"],
    "chunked twice": [b"Transfer-Encoding: chunked, chunked"],
    "two codings, two headers": [b"Transfer-Encoding: identity", CHUNKED, LENGTH],
    "vertical tab before chunked": [b"Transfer-Encoding: \x0bchunked", LENGTH],
    "quoted chunked": [b'Transfer-Encoding: "chunked"', LENGTH],
    "null after chunked": [b"Transfer-Encoding: chunked\x00", LENGTH],
    "space before the colon": [b"Transfer-Encoding : chunked", LENGTH],
    "tab before the colon": [b"Transfer-Encoding\t: chunked", LENGTH],
    "space before the name": [b" Transfer-Encoding: chunked", LENGTH],
    "folded value": [b"Transfer-Encoding:\r\n chunked", LENGTH],
    "null in the name": [b"Transfer-\x00Encoding: chunked", LENGTH],
    "no colon": [b"Transfer-Encoding", LENGTH],
    "no name": [b": chunked", LENGTH],
    "carriage return in a value": [b"X-A: b\rTransfer-Encoding: chunked", LENGTH],
}
BROKEN_CHUNKS = {
    "prefixed size": b"0x1\r\na\r\n0\r\n\r\n",
    "signed size": b"+1\r\na\r\n0\r\n\r\n",
    "negative size": b"-1\r\na\r\n0\r\n\r\n",
    "size with an underscore": b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
    "size in two words": b"1 1\r\na\r\n0\r\n\r\n",
    "no size": b"\r\na\r\n0\r\n\r\n",
    "size beyond 64 bits": b"1" + b"0" * 16 + b"\r\na\r\n0\r\n\r\n",
    "more data than its size": b"1\r\nab\r\n0\r\n\r\n",
    "bare line feed after the size": b"1\na\r\n0\r\n\r\n",
    "bare line feed after the data": b"1\r\na\n0\r\n\r\n",
    "carriage return in an extension": b"1;a=\rb\r\na\r\n0\r\n\r\n",
    "line feed in an extension": b"1;a\n0\r\n\r\n",
}
BROKEN_REQUEST_LINES = {
    "no version": b"POST /v1/topics/framing/messages\r\n",
    "unknown version": b"POST /v1/topics/framing/messages HTTP/1.1x\r\n",
    "space in the path": b"POST /v1/topics/framing/messages x HTTP/1.1\r\n",
    "carriage return in the path": b"POST /v1/topics/framing\r/messages HTTP/1.1\r\n",
    "null in the path": b"POST /v1/topics/framing\x00/messages HTTP/1.1\r\n",
    "brackets in the method": b"PO(ST /v1/topics/framing/messages HTTP/1.1\r\n",
}


@pytest.mark.parametrize("lines", AMBIGUOUS_HEADERS.values(), ids=AMBIGUOUS_HEADERS.keys())
def test_headers_that_two_readers_understand_differently_are_refused(
    broker: BrokerProcess, lines: list[bytes]
) -> None:
    statuses = _statuses(broker, _publish(*lines) + ENDED)

    _assert_refused_alone(broker, statuses)


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_broken_chunks_are_refused(broker: BrokerProcess, body: bytes) -> None:
    statuses = _statuses(broker, _publish(CHUNKED) + body + SMUGGLED)

    _assert_refused_alone(broker, statuses)


@pytest.mark.parametrize("line", BROKEN_REQUEST_LINES.values(), ids=BROKEN_REQUEST_LINES.keys())
def test_broken_request_line_is_refused(broker: BrokerProcess, line: bytes) -> None:
    headers = b"Host: x\r\nConnection: close\r\nContent-Type: text/plain\r\n%s\r\n\r\n" % LENGTH

    _assert_refused_alone(broker, _statuses(broker, line + headers + ENDED))


def test_length_behind_the_last_chunk_counts_for_nothing(broker: BrokerProcess) -> None:
    body = b"1\r\na\r\n0\r\nContent-Length: 500\r\n\r\n"

    _assert_refused_alone(broker, _statuses(broker, _publish(CHUNKED) + body + SMUGGLED))


def test_chunk_extension_is_passed_over(broker: BrokerProcess, topic: str) -> None:
    body = b"1;name=value\r\na\r\n0\r\n\r\n"

    statuses = _statuses(broker, _publish(CHUNKED, topic=topic) + body)

    assert statuses == [201]
    assert [each["data"] for each in broker.api.all_messages(topic)] == ["a"]


def test_body_that_looks_like_a_request_is_data(broker: BrokerProcess, topic: str) -> None:
    statuses = _statuses(broker, _publish(LENGTH, topic=topic) + ENDED)

    assert statuses == [201]
    assert [each["data"] for each in broker.api.all_messages(topic)] == [ENDED.decode()]
    assert broker.api.get_topic("smuggled").status_code == 404


def _publish(*lines: bytes, topic: str = "framing") -> bytes:
    return b"\r\n".join(
        (
            b"POST /v1/topics/%s/messages HTTP/1.1" % topic.encode(),
            b"Host: x",
            b"Content-Type: text/plain",
            b"Connection: close",
            *lines,
            b"",
            b"",
        )
    )


def _assert_refused_alone(broker: BrokerProcess, statuses: list[int]) -> None:
    """Insist on one refusal, and on a connection that ended with it."""
    assert len(statuses) == 1
    assert 400 <= statuses[0] < 600
    assert broker.api.get_topic("smuggled").status_code == 404
    assert broker.api.get_topic("framing").status_code == 404


def _statuses(broker: BrokerProcess, raw: bytes) -> list[int]:
    """Send bytes and nothing more; return the statuses that came until the broker hung up."""
    received = b""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(raw)
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            pass
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


def test_next_request_may_come_before_the_last_is_over(broker: BrokerProcess, topic: str) -> None:
    """Whatever its size: a client that has its answer does not wait for the broker to be ready."""
    for number in range(60):
        body = b"%04d" % number + b"x" * 1_000_000
        answer = broker.api.post(topic, body, {"content-type": "text/plain"})
        assert answer.status_code == 201


@pytest.mark.parametrize("size", [10, 70_000, 300_000])
def test_requests_sent_at_once_are_all_answered(
    broker: BrokerProcess, topic: str, size: int
) -> None:
    one = _publish(b"Content-Length: %d" % size, topic=topic).replace(b"Connection: close\r\n", b"")
    last = _publish(b"Content-Length: %d" % size, topic=topic)

    statuses = _statuses(broker, (one + b"x" * size) * 7 + last + b"x" * size)

    assert statuses == [201] * 8
    assert [len(each["data"]) for each in broker.api.all_messages(topic)] == [size] * 8
