"""What a check says of rows: nothing of what was written, and it fails at none."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.model import Message, size_of, sizes_of
from broker.store.sqlite.block import rows_of
from broker.store.sqlite.block_check import (
    bytes_from,
    faults_of,
    has_key,
    is_message,
    messages_of,
    others_among,
)

TOPIC = 7
keys = st.none() | st.sampled_from(("a", "b"))


@st.composite
def logs(draw: st.DrawFn) -> list[Message]:
    """Make messages that follow one another, whose ids are their seqs."""
    first = draw(st.integers(1, 1000))
    members = draw(st.lists(st.tuples(keys, st.none() | st.binary(max_size=9)), min_size=1))
    return [
        Message(seq, key, attributes_of(seq, key), data, 0.0)
        for seq, (key, data) in enumerate(members, first)
    ]


def attributes_of(seq: int, key: str | None) -> bytes:
    event = {"id": f"{seq}", "source": "/s", "type": "t"}
    return json.dumps(event if key is None else event | {"partitionkey": key}).encode()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)
parts = (
    st.text(max_size=20)
    | anything.map(json.dumps)
    | st.lists(
        st.tuples(keys, st.integers(-3, 30), st.integers(-30, 30)).map(list)
        | st.tuples(keys, st.integers(0, 30), st.integers(0, 30), st.none() | st.floats(0, 9)).map(
            list
        ),
        max_size=4,
    ).map(json.dumps)
)


@given(logs())
def test_what_was_written_has_no_faults(log: list[Message]) -> None:
    by_seq = {each.seq: each for each in log}
    for topic, first, key, attributes, data, _, told in rows_of(TOPIC, log, sizes_of(log)):
        count = messages_of(told)
        inside = [by_seq[seq] for seq in range(first, first + count)]
        size = sum(map(size_of, inside))
        assert faults_of(topic, first, key, attributes, data, told) == "[]"
        ids = json.dumps([f"{each.seq}" for each in log])
        assert others_among(ids, "/s", log[0].seq, 0, first, attributes, told) == "[]"
        for place, each in enumerate(inside):
            assert is_message(f"{each.seq}", "/s", each.seq, first, attributes, told)
            assert not is_message("other", "/s", each.seq, first, attributes, told)
            assert has_key(each.key, each.seq, first, key, told)
            assert not has_key("other", each.seq, first, key, told)
            rest = sum(map(size_of, inside[place:]))
            assert bytes_from(each.seq, first, size, told) == rest
        assert not is_message("x", "/s", first + count, first, attributes, told)
        assert not has_key(None, first + count, first, key, told)


@given(logs(), st.data())
def test_ids_of_others_are_told(log: list[Message], data: st.DataObject) -> None:
    wrong = data.draw(st.sets(st.sampled_from([each.seq for each in log])))
    ids = [f"{each.seq}" + "?" * (each.seq in wrong) for each in log]
    kept_from = data.draw(st.integers(log[0].seq, log[-1].seq))

    found: list[Any] = []
    for _, first, _, attributes, _, _, told in rows_of(TOPIC, log, sizes_of(log)):
        others = others_among(json.dumps(ids), "/s", log[0].seq, kept_from, first, attributes, told)
        found += json.loads(others)

    assert found == [[f"{seq}?", seq] for seq in sorted(wrong) if seq >= kept_from]


@given(parts, st.binary(max_size=30), st.none() | st.binary(max_size=30), keys)
def test_no_row_makes_it_fail(told: str, attributes: bytes, data: bytes | None, key: str) -> None:
    assert json.loads(faults_of(TOPIC, 5, key, attributes, data, told))
    assert messages_of(told) >= 1
    for seq in range(5, 12):
        assert isinstance(is_message("x", "/s", seq, 5, attributes, told), bool)
        assert isinstance(has_key(key, seq, 5, None, told), bool)
        assert isinstance(bytes_from(seq, 5, 60, told), int)
    assert isinstance(json.loads(others_among('["x"]', "/s", 5, 0, 5, attributes, told)), list)
