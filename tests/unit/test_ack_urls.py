"""Tokens of ack URLs: what was signed is read back, nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.ack_urls import Claim, claim_in, token_of

KEY, OTHER = b"k" * 24, b"o" * 24
CLAIM = Claim(7, 2, [10, 11, 900], [1, 1, 3])
SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(
    st.builds(
        Claim,
        st.integers(1, 2**40),
        st.integers(0, 2**31),
        st.lists(st.integers(1, 2**53), min_size=1, max_size=100),
        st.lists(st.integers(1, 10**6), min_size=1, max_size=100),
    )
)
def test_a_token_is_read_back_with_any_of_the_keys(claim: Claim) -> None:
    token = token_of(claim, KEY)
    assert set(token) <= SAFE
    assert claim_in(token, [OTHER, KEY]) == claim


def test_a_token_signed_with_another_key_is_none() -> None:
    assert claim_in(token_of(CLAIM, KEY), [OTHER]) is None
    assert claim_in(token_of(CLAIM, KEY), []) is None


@pytest.mark.parametrize("position", range(0, 40, 3))
def test_a_token_changed_anywhere_is_none(position: int) -> None:
    token = token_of(CLAIM, KEY)
    position %= len(token) - 1  # the last character may carry bits that are not read
    changed = "A" if token[position] != "A" else "B"
    assert claim_in(token[:position] + changed + token[position + 1 :], [KEY]) is None


@given(st.text(max_size=60))
def test_any_other_text_is_none(text: str) -> None:
    assert claim_in(text, [KEY]) is None
