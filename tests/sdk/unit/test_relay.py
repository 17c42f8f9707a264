"""What the relay decides without a database: batches, and which rows are held back."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_client.batches import split_batches
from broker_client.relay import OutboxRow, Outcome


def row(id: int, topic: str = "a", key: str | None = None, size: int = 1) -> OutboxRow:
    return OutboxRow(id, topic, key, "x" * size, None)


rows = st.lists(st.builds(row, st.integers(), st.sampled_from("ab"), size=st.integers(1, 12)))


@given(rows)
def test_batches_keep_every_row_in_order(given_rows: list[OutboxRow]) -> None:
    batches = list(split_batches(given_rows, 10))

    assert [each for batch in batches for each in batch] == given_rows


@given(rows)
def test_a_batch_is_of_one_topic_and_within_the_limit(given_rows: list[OutboxRow]) -> None:
    for batch in split_batches(given_rows, 10):
        assert len({each.topic for each in batch}) == 1
        assert len(batch) == 1 or sum(len(each.event) for each in batch) <= 10


@given(rows)
def test_no_batch_is_smaller_than_it_must_be(given_rows: list[OutboxRow]) -> None:
    batches = list(split_batches(given_rows, 10))

    for batch, following in pairwise(batches):
        size = sum(len(each.event) for each in batch)
        assert following[0].topic != batch[0].topic or size + len(following[0].event) > 10


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [
        ([], []),
        ([5, 5, 5], [2, 1]),
        ([20], [1]),
        ([1, 20, 1], [1, 1, 1]),
        ([4, 6, 1], [2, 1]),
    ],
)
def test_the_limit_is_of_bytes(sizes: list[int], lengths: list[int]) -> None:
    events = [
        replace(row(n), event="ü" * (size // 2) + "x" * (size % 2)) for n, size in enumerate(sizes)
    ]
    found = list(split_batches(events, 10))
    assert [len(each) for each in found] == lengths
    assert [each for batch in found for each in batch] == events


def test_a_refused_row_holds_its_key_in_its_topic_only() -> None:
    outcome = Outcome()
    outcome.refuse(row(1, "a", "k"), "no")

    assert outcome.holds(row(2, "a", "k"))
    assert not outcome.holds(row(3, "a", "other"))
    assert not outcome.holds(row(4, "b", "k"))


def test_a_refused_row_without_a_key_holds_nothing() -> None:
    outcome = Outcome()
    outcome.refuse(row(1, "a", None), "no")

    assert not outcome.holds(row(2, "a", None))
