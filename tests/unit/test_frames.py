"""Frames come out as they went in, wherever the bytes were cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from broker.dispatch.frames import (
    Endpoint,
    Forget,
    Job,
    Jobs,
    Outcome,
    decode_for_courier,
    decode_outcomes,
    framed,
    split,
)
from broker.model import Message

ids = st.integers(0, 2**63 - 1)
messages = st.builds(
    Message,
    ids,
    st.none() | st.text(max_size=9),
    st.binary(max_size=20),
    st.none() | st.binary(max_size=300),
    st.floats(allow_nan=False),
)
jobs = st.builds(Job, ids, ids, st.integers(1, 1001), st.lists(messages, max_size=3))
endpoints = st.builds(
    Endpoint,
    ids,
    st.text(max_size=9),
    st.sampled_from(["binary", "structured", "batch"]),
    st.lists(st.binary(max_size=9), max_size=2),
    st.lists(st.floats(allow_nan=False), max_size=2),
    st.integers(1, 600_000),
    st.lists(st.text(max_size=9), max_size=2),
    st.text(max_size=9),
)
to_courier = endpoints | st.builds(Jobs, st.lists(jobs, max_size=3)) | st.builds(Forget, ids)
outcomes = st.builds(
    Outcome,
    ids,
    st.integers(0, 599),
    st.text(max_size=9),
    st.integers(0, 600_000),
    st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    st.binary(max_size=20),
)


def pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


def received(chunks: Iterable[bytes]) -> list[bytes]:
    """Take frames off a buffer as both sides do, a chunk at a time."""
    buffer, bodies = bytearray(), []
    for chunk in chunks:
        buffer += chunk
        bodies += list(split(buffer))
    assert not buffer
    return bodies


@given(st.lists(to_courier, max_size=4), st.lists(st.integers(0), max_size=6))
def test_frames_for_the_courier_come_out_whole_and_in_order(
    frames: list[Endpoint | Jobs | Forget], cuts: list[int]
) -> None:
    stream = b"".join(map(framed, frames))
    assert [decode_for_courier(body) for body in received(pieces(stream, cuts))] == frames


@given(st.lists(st.lists(outcomes, max_size=3), max_size=4), st.lists(st.integers(0), max_size=6))
def test_outcomes_come_out_whole_and_in_order(frames: list[list[Outcome]], cuts: list[int]) -> None:
    stream = b"".join(map(framed, frames))
    assert [decode_outcomes(body) for body in received(pieces(stream, cuts))] == frames


def test_frames_cut_at_every_byte_come_out() -> None:
    frames = [Forget(1), Jobs([Job(1, 2, 1, [Message(3, None, b"{}", None, 0.0)])]), Forget(2)]
    stream = b"".join(map(framed, frames))
    for cut in range(len(stream) + 1):
        bodies = received([stream[:cut], stream[cut:]])
        assert [decode_for_courier(body) for body in bodies] == frames
    single = received(stream[at : at + 1] for at in range(len(stream)))
    assert [decode_for_courier(body) for body in single] == frames


def test_incomplete_frame_stays_in_the_buffer() -> None:
    stream = framed(Forget(1))
    buffer = bytearray(stream + stream[:-1])
    assert len(list(split(buffer))) == 1
    assert buffer == stream[:-1]
    assert list(split(buffer)) == []
    assert buffer == stream[:-1]


def test_empty_frame_comes_out_empty() -> None:
    assert list(split(bytearray(4))) == [b""]
