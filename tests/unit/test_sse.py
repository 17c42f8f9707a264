"""Server-Sent Events: read the same however a stream is cut into parts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.sse import ServerSentEvent, events_in

TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)


def read(*parts: bytes) -> list[ServerSentEvent]:
    return [event for events in events_in(parts) for event in events]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(edges)]


@given(
    events=st.lists(st.tuples(st.integers(1, 10**6), st.lists(TEXT, min_size=1, max_size=3))),
    ends=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    places=st.lists(st.integers(0, 10**6), max_size=12),
    rest=st.sampled_from([b"", b"id: 7", b"data: x", b": a comment\n"]),
)
def test_events_are_read_however_they_are_cut(
    events: list[tuple[int, list[str]]], ends: bytes, places: list[int], rest: bytes
) -> None:
    stream = b": begin" + ends * 2
    for id_, lines in events:
        data = [b"data: %s" % line.encode() for line in lines]
        stream += ends.join([b"id: %d" % id_, b"event: message", *data, b"", b""])
    # A line feed may follow the last carriage return, so what it ends may yet be pending.
    stream += b": over" + ends * 2 + rest

    found = read(*cut(stream, places))

    assert found == [ServerSentEvent(str(id_), "\n".join(lines).encode()) for id_, lines in events]


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (b"data\n\n", [("", b"")]),
        (b"data:a\ndata:  b\n\n", [("", b"a\n b")]),
        (b"id: 1\n\ndata: a\n\n", [("1", b"a")]),
        (b"id: 1\ndata: a\n\ndata: b\n\n", [("1", b"a"), ("1", b"b")]),
        (b"colour: red\n:\ndata: a\nretry: 5\n\n", [("", b"a")]),
        (b"data: a\n", []),
        (b"data: a", []),
    ],
)
def test_fields_are_read_as_the_standard_has_it(
    stream: bytes, told: list[tuple[str, bytes]]
) -> None:
    assert [(event.id, event.data) for event in read(stream)] == told
