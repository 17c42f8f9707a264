"""A topic is filled with exactly as many messages as were asked for, each with an id of its own."""

import msgspec
import pytest
from bench.fill import EVENTS, request_body, requests
from bench.messages import order
from hypothesis import given
from hypothesis import strategies as st


@given(first=st.integers(0, 10_000), count=st.integers(1, 10 * EVENTS))
def test_requests_have_every_number_once(first: int, count: int) -> None:
    cut = list(requests(first, count))
    assert [number for numbers in cut for number in numbers] == list(range(first, first + count))
    assert all(len(numbers) <= EVENTS for numbers in cut)


def test_ids_are_distinct_and_in_no_order() -> None:
    events = msgspec.json.decode(request_body(range(5000, 6000), order()))
    ids = [event["id"] for event in events]
    assert len(set(ids)) == 1000
    assert ids != sorted(ids)


@pytest.mark.parametrize("number", [0, 10**6, 10**7])
def test_event_holds_the_data(number: int) -> None:
    (event,) = msgspec.json.decode(request_body(range(number, number + 1), order()))
    assert msgspec.json.encode(event["data"]) == order()
