"""What may name a topic or a subscription."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import InvalidRequest
from broker.names import checked_name


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True))
def test_name_of_allowed_characters_is_returned_as_it_is(name: str) -> None:
    assert checked_name("topic", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "-a",
        "_a",
        ".a",
        "a b",
        "a/b",
        "a\n",
        "\na",
        "a\x00",
        "é",
        "\uff41",  # a full-width letter
        "\u0663",  # a digit, but not in ASCII
        "a" * 129,
        "a%2Fb",
    ],
)
def test_any_other_name_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked_name("subscription", name)
    (fault,) = refused.value.faults
    assert fault.field == "subscription"
    assert "1 to 128" in fault.message


def test_longest_name_is_allowed() -> None:
    assert checked_name("topic", "a" * 128) == "a" * 128
