"""Messages side by side are the same messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model import NewMessage, size_of
from broker.new_batch import NewBatch, data_in, longest_in, side_by_side

alike = st.builds(
    NewMessage,
    id=st.text(max_size=5),
    source=st.just("/s"),
    key=st.none() | st.text(max_size=3),
    attributes=st.binary(max_size=20),
    data=st.none() | st.binary(max_size=20),
    fingerprint=st.binary(min_size=4, max_size=4),
)
MESSAGE = NewMessage("1", "/s", None, b"{}", b"1", b"same")


def batch_of(messages: list[NewMessage]) -> NewBatch:
    found = side_by_side(messages)
    assert found is not None
    return found


@given(st.lists(alike, min_size=1, max_size=10), st.slices(10))
def test_batch_is_its_messages(messages: list[NewMessage], part: slice) -> None:
    batch = batch_of(messages)

    assert len(batch) == len(messages)
    assert list(batch) == messages
    assert [batch[place] for place in range(-len(batch), len(batch))] == messages * 2
    assert batch[part] == messages[part]
    assert batch.sizes() == [size_of(each) for each in messages]
    assert side_by_side(batch) is batch


@given(st.lists(alike, min_size=1, max_size=10))
def test_batch_is_measured_as_its_messages_are(messages: list[NewMessage]) -> None:
    batch = batch_of(messages)

    lengths = [len(each.data or b"") for each in messages]
    longest = max(len(each.attributes) for each in messages), max(lengths)
    assert longest_in(batch) == longest_in(messages) == longest
    assert data_in(batch) == data_in(messages) == sum(lengths)


@pytest.mark.parametrize(
    "other",
    [
        NewMessage("2", "/other", None, b"{}", b"1", b"same"),
        NewMessage("2", "/s", None, b"{}", b"1", None),
        NewMessage("2", "/s", None, b"{}", b"1", b"longer"),
        NewMessage("2", "/s", None, b"{}", b"1", b"same", 1.0),
    ],
    ids=["source", "made id", "fingerprint", "waits"],
)
def test_what_is_not_alike_is_not_put_side_by_side(other: NewMessage) -> None:
    assert side_by_side([MESSAGE, other]) is None
    assert side_by_side([other, MESSAGE]) is None
