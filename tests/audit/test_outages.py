"""The time without service is the longest wait for a sign of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.outages import Outage, Struck, longest_gap, outages


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ([], 10.0),
        ([1.0], 9.0),
        ([9.0], 9.0),
        ([1.0, 7.0, 8.0], 6.0),
        ([8.0, 1.0, 7.0], 6.0),
        ([-5.0, 3.0, 6.0, 50.0], 4.0),
    ],
)
def test_longest_gap_is_between_two_signs_or_to_an_end(signs: list[float], expected: float) -> None:
    assert longest_gap(signs, 0.0, 10.0) == expected


@given(signs=st.lists(st.floats(0, 10)))
def test_no_gap_is_longer_than_all_or_shorter_than_an_even_share(signs: list[float]) -> None:
    gap = longest_gap(signs, 0.0, 10.0)

    assert 10.0 / (len(signs) + 1) - 1e-9 <= gap <= 10.0


def test_strikes_are_summed_up_by_their_names() -> None:
    strikes = [
        Struck("b", "t", 1.0, 4.0),
        Struck("a", "t", 7.0, 7.0),
        Struck("b", "u", 2.0, 9.0),
    ]

    assert outages([*strikes, Struck("b", "t", 9.0, 5.0)]) == [
        Outage("a", 1, 7.0, 7.0, 7.0, 7.0),
        Outage("b", 3, 2.0, 9.0, 5.0, 9.0),
    ]


def test_no_strikes_make_no_outages() -> None:
    assert outages([]) == []
