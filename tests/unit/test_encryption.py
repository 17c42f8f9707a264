"""Encryption of secrets: a value opens with its key, at its place, whole, and not otherwise."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.encryption import Cipher, Tampered, UnknownKey, id_of, keys_in

KEY, OTHER = bytes(range(32)), bytes(32)
PLACE = ("subscription/t/s", "secret")
places = st.lists(st.text("abc/*", max_size=4), min_size=1, max_size=4).map(tuple)


@given(text=st.text(), place=places)
def test_what_is_sealed_opens_at_its_place(text: str, place: tuple[str, ...]) -> None:
    assert Cipher([KEY]).open(Cipher([KEY]).seal(text, place), place) == text


@given(place=places, other=places)
def test_it_opens_at_no_other_place(place: tuple[str, ...], other: tuple[str, ...]) -> None:
    sealed = Cipher([KEY]).seal("text", place)
    if place == other:
        assert Cipher([KEY]).open(sealed, other) == "text"
    else:
        with pytest.raises(Tampered):
            Cipher([KEY]).open(sealed, other)


def test_same_value_is_sealed_differently_each_time() -> None:
    assert Cipher([KEY]).seal("text", PLACE) != Cipher([KEY]).seal("text", PLACE)


@given(position=st.integers(0), bit=st.integers(0, 7))
def test_changed_bit_is_found_out(position: int, bit: int) -> None:
    sealed = Cipher([KEY]).seal("text", PLACE)
    box = bytearray(base64.b64decode(sealed["sealed"]))
    box[position % len(box)] ^= 1 << bit
    with pytest.raises(Tampered):
        Cipher([KEY]).open({**sealed, "sealed": base64.b64encode(box).decode()}, PLACE)


@pytest.mark.parametrize("rest", [{}, {"sealed": ""}, {"sealed": "§"}, {"sealed": "AAAA"}])
def test_what_is_no_sealed_value_is_found_out(rest: dict[str, str]) -> None:
    with pytest.raises(Tampered):
        Cipher([KEY]).open({"key_id": id_of(KEY), **rest}, PLACE)


def test_first_key_seals_and_all_open() -> None:
    old, both, new = Cipher([KEY]), Cipher([OTHER, KEY]), Cipher([OTHER])
    assert both.open(old.seal("text", PLACE), PLACE) == "text"
    assert new.open(both.seal("text", PLACE), PLACE) == "text"
    with pytest.raises(UnknownKey, match=id_of(KEY)):
        new.open(old.seal("text", PLACE), PLACE)


def test_key_that_goes_by_the_id_of_another_does_not_open() -> None:
    sealed = Cipher([KEY]).seal("text", PLACE)
    with pytest.raises(Tampered):
        Cipher([OTHER]).open({**sealed, "key_id": id_of(OTHER)}, PLACE)


@pytest.mark.parametrize(
    "write",
    [
        bytes.hex,
        lambda key: base64.b64encode(key).decode(),
        lambda key: base64.urlsafe_b64encode(key).decode(),
        lambda key: base64.urlsafe_b64encode(key).decode().rstrip("="),
    ],
    ids=["hex", "base64", "base64url", "base64url without padding"],
)
@given(keys=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3))
def test_keys_are_read_as_tools_write_them(write: object, keys: list[bytes]) -> None:
    assert callable(write)
    for between in (" ", ",", "\n", " ,\n"):
        assert keys_in(between.join(map(write, keys))) == tuple(keys)
