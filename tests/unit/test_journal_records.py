"""What the journal consists of, and its wire format."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from broker.store.jetstream.records import (
    Assembly,
    Beat,
    Claimed,
    Executed,
    Part,
    Record,
    Released,
    decode,
    encode,
    parts_of,
)

values = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | (st.binary())
)
groups = st.lists(st.tuples(st.integers(0, 99), st.lists(st.lists(values))), min_size=1)


def lists(group: list[Executed]) -> list[list[object]]:
    """Return a group with every sequence a list."""
    return [[number, [list(row) for row in rows]] for number, rows in group]


@given(groups, st.integers(1, 64))
def test_group_comes_out_of_its_parts_as_it_was(group: list[Executed], size: int) -> None:
    assembly = Assembly()
    *others, last = [assembly.add(part) for part in parts_of(group, size)]

    assert others == [None] * len(others)
    assert last is not None
    assert lists(last) == lists(group)


@given(groups, groups, st.data())
def test_group_that_is_not_complete_leaves_nothing(
    broken: list[Executed], whole: list[Executed], data: st.DataObject
) -> None:
    assembly = Assembly()
    parts = parts_of(broken, 2)
    for part in parts[: data.draw(st.integers(0, len(parts) - 1))]:
        assembly.add(part)
    assembly.forget()

    (*_, found) = [assembly.add(part) for part in parts_of(whole, 1000)]

    assert found is not None
    assert lists(found) == lists(whole)


def test_record_comes_back_as_it_was() -> None:
    records: list[Record] = [
        Claimed("me-1", "http://me", 4, "ab", 1.5, ["SELECT 1"]),
        Part(b"\0x", False),
        Beat(),
        Released(),
    ]

    assert [decode(encode(record)) for record in records] == records


def test_claim_of_an_older_broker_says_nothing_of_grpc() -> None:
    claim = Claimed("me-1", "http://me", 4, "ab", 1.5, ["SELECT 1"], "me:50051")
    kind, *fields = msgspec.msgpack.decode(encode(claim))

    assert decode(encode(claim)) == claim
    older = decode(msgspec.msgpack.encode([kind, *fields[:-1]]))
    assert isinstance(older, Claimed)
    assert (older.url, older.rpc) == ("http://me", "")
    assert decode(msgspec.msgpack.encode([kind, *fields, "of a newer one"])) == claim
