"""The stopwatch counts events and keeps the first arrival of each indexed one."""

from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from bench.deliveries import Deliveries
from bench.http_message import Message
from bench.messages import BATCH, JSON, batch, numbered
from bench.stopwatch import Arrivals, Stopwatch, running_stopwatch

SIGNATURE = {"webhook-signature": "v1,c2lnbmF0dXJl"}


@pytest.fixture
def stopwatch(tmp_path: Path) -> Iterator[Stopwatch]:
    with running_stopwatch(tmp_path) as running:
        yield running


def post(stopwatch: Stopwatch, body: bytes, headers: dict[str, str]) -> int:
    connection = HTTPConnection("127.0.0.1", stopwatch.process.port, timeout=10)
    try:
        connection.request("POST", "/webhook", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_first_arrival_is_kept() -> None:
    arrivals = Arrivals()
    for now_ns in (1_000_000_000, 2_000_000_000):
        arrivals.add(Message(b"POST / HTTP/1.1", numbered(5)), now_ns)
    assert arrivals.at_ns == {5: 1_000_000_000}
    assert arrivals.deliveries == Deliveries(2, 1, first_at=1.0, last_at=2.0)


def test_arrival_is_told(stopwatch: Stopwatch) -> None:
    assert post(stopwatch, numbered(3), SIGNATURE | {"Content-Type": JSON}) == 204
    assert stopwatch.arrivals_ns().keys() == {3}
    assert stopwatch.deliveries().received == 1


def test_events_of_a_batch_are_counted(stopwatch: Stopwatch) -> None:
    assert post(stopwatch, batch(37), SIGNATURE | {"Content-Type": BATCH}) == 204
    assert stopwatch.deliveries().received == 37


def test_unsigned_webhook_is_refused(stopwatch: Stopwatch) -> None:
    assert post(stopwatch, numbered(3), {"Content-Type": JSON}) == 401
    assert stopwatch.deliveries().received == 0
