"""The published messages have the promised size and identity."""

import msgspec
import pytest
from bench.messages import (
    BATCH_EVENTS,
    MESSAGE_BYTES,
    REQUEST_NUMBER,
    batch,
    numbered,
    order,
    padded,
)


def test_order_has_the_size() -> None:
    assert len(order()) == MESSAGE_BYTES
    assert len(order(5000)) == 5000


@pytest.mark.parametrize("size", [11, 100, 262_144])
def test_padded_has_any_size(size: int) -> None:
    assert len(padded(size)) == size
    assert msgspec.json.decode(padded(size)).keys() == {"note"}


@pytest.mark.parametrize("index", [0, 7, 123_456])
def test_numbered_has_the_size_and_the_index(index: int) -> None:
    body = numbered(index)
    assert len(body) == MESSAGE_BYTES
    assert msgspec.json.decode(body)["index"] == index


def test_batch_has_distinct_ids_in_every_request() -> None:
    requests = [batch().replace(REQUEST_NUMBER.encode(), number) for number in (b"1", b"2")]
    ids = {event["id"] for request in requests for event in msgspec.json.decode(request)}
    assert len(ids) == 2 * BATCH_EVENTS


def test_batch_holds_whole_orders() -> None:
    event = msgspec.json.decode(batch(1))[0]
    assert msgspec.json.encode(event["data"]) == order()
