"""What is under way is bounded by its bytes, and given back whatever becomes of a request."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.api.under_way import (
    LARGEST_BODIES,
    LEAST_BYTES,
    SMALL_BYTES,
    Share,
    UnderWay,
    most_bytes,
)
from broker.errors import Overloaded

MIB = 1024 * 1024
MOST = 8 * MIB


def share_of(under_way: UnderWay, *pieces: bytes) -> Share:
    """Make a request whose body comes in these pieces."""
    events = iter(pieces)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": next(events), "more_body": True}

    return Share(under_way, receive)


def drive(share: Share) -> MutableMapping[str, Any]:
    """Receive what needs no waiting."""
    try:
        share.receive().send(None)
    except StopIteration as ended:
        received: MutableMapping[str, Any] = ended.value
        return received
    raise AssertionError("it waits")


def test_what_comes_is_counted_until_it_is_given_back() -> None:
    under_way = UnderWay(MOST)
    share = share_of(under_way, b"x" * 10, b"", b"y" * 5)

    assert [drive(share)["body"] for _ in range(3)] == [b"x" * 10, b"", b"y" * 5]
    assert under_way.bytes == 15
    share.give_back()
    share.give_back()
    assert under_way.bytes == 0


def test_large_body_is_refused_when_there_is_enough_and_small_ones_still_come() -> None:
    under_way = UnderWay(MOST)
    large = [share_of(under_way, b"x" * MIB, b"x") for _ in range(6)]
    for share in large:
        drive(share)

    with pytest.raises(Overloaded):
        drive(large[0])
    with pytest.raises(Overloaded):
        drive(share_of(under_way, b"x" * (SMALL_BYTES + 1)))
    small = [share_of(under_way, b"x" * SMALL_BYTES) for _ in range(2 * MIB // SMALL_BYTES)]
    for share in small:
        drive(share)
    with pytest.raises(Overloaded):
        drive(share_of(under_way, b"x"))

    large[0].give_back()
    drive(share_of(under_way, b"x"))


@given(st.lists(st.lists(st.integers(0, 3 * MIB), max_size=4), max_size=12))
def test_never_is_there_more_than_may_be_and_nothing_is_left(sizes: list[list[int]]) -> None:
    under_way = UnderWay(MOST)
    shares = [share_of(under_way, *(b"x" * size for size in each)) for each in sizes]
    for share, pieces in zip(shares, sizes, strict=True):
        for _ in pieces:
            try:
                drive(share)
            except Overloaded:
                share.give_back()
                break
            assert 0 <= under_way.bytes <= MOST
    for share in shares:
        share.give_back()
    assert under_way.bytes == 0


def test_call_in_one_piece_is_held_while_it_is_answered() -> None:
    under_way = UnderWay(MOST)

    with under_way.holding(5 * MIB):
        assert under_way.bytes == 5 * MIB
        with pytest.raises(Overloaded), under_way.holding(2 * MIB):
            pass
    assert under_way.bytes == 0


def test_call_that_fails_is_held_no_longer() -> None:
    under_way = UnderWay(MOST)

    with suppress(KeyError), under_way.holding(MIB):
        raise KeyError
    assert under_way.bytes == 0


def test_some_of_the_largest_bodies_may_be_under_way() -> None:
    assert most_bytes(16 * MIB) == LEAST_BYTES
    assert most_bytes(1024) == LEAST_BYTES
    assert most_bytes(256 * MIB) == LARGEST_BODIES * 256 * MIB
