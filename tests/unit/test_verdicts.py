"""What an endpoint's answer to a batch says of single positions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dispatch.frames import Outcome
from broker.dispatch.verdicts import positions_of

SIZE = 5


@given(st.lists(st.integers(-3, 9)), st.lists(st.integers(-3, 9)))
def test_positions_inside_the_batch_are_singled_out(retry: list[int], dead: list[int]) -> None:
    body = json.dumps({"retry": retry, "dead_letter": dead, "anything": [1]}).encode()
    inside = range(SIZE)
    found = positions_of(Outcome(1, 200, body=body), SIZE)
    assert found.retry == {each for each in retry if each in inside}
    assert found.dead_letter == {each for each in dead if each in inside} - found.retry
    assert bool(found) == any(each in inside for each in (*retry, *dead))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"null",
        b"[0]",
        b"{}",
        b'{"retry": "0"}',
        b'{"retry": ["0"]}',
        b'{"retry": [0.5]}',
        b'{"retry": [true]}',
        b'{"retry": {"0": 1}}',
        b'{"retry": null}',
        b'{"retry": [0]',
        b'{"retry": [99999999999999999999999]}',
        b'{"other": [0]}',
        b'{"other": ' + b"[" * 60_000,
        b"\xff",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_answer_of_another_form_singles_out_nothing(body: bytes) -> None:
    assert not positions_of(Outcome(1, 200, body=body), SIZE)


@given(st.binary(max_size=40))
def test_any_answer_is_understood_or_ignored(body: bytes) -> None:
    found = positions_of(Outcome(1, 200, body=body), SIZE)
    assert found.retry | found.dead_letter <= set(range(SIZE))
