"""What an endpoint's answer to a batch says of single positions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dispatch.frames import Outcome
from broker.dispatch.policy import Dead, reason_of, succeeded
from broker.dispatch.verdicts import asked_to_retry, positions_of

SIZE = 5


def answer(body: bytes, status: int = 200) -> Outcome:
    return Outcome(1, status, body=body)


@given(st.lists(st.integers(-3, 9)), st.lists(st.integers(-3, 9)))
def test_positions_inside_the_batch_are_singled_out(retry: list[int], dead: list[int]) -> None:
    body = json.dumps({"retry": retry, "dead_letter": dead, "anything": [1]}).encode()
    found = positions_of(answer(body), SIZE)
    inside = {position for position in (*retry, *dead) if 0 <= position < SIZE}
    if not inside:
        assert found is None
        return
    assert found is not None
    assert set(found) == inside
    for position, decision in found.items():
        if position in retry:
            assert decision is None
        else:
            assert isinstance(decision, Dead)


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
    assert positions_of(answer(body), SIZE) is None


@given(st.binary(max_size=40))
def test_any_answer_is_understood_or_ignored(body: bytes) -> None:
    found = positions_of(answer(body), SIZE)
    assert found is None or set(found) <= set(range(SIZE))


@pytest.mark.parametrize("status", [0, 199, 300, 500])
def test_failed_request_singles_out_nothing(status: int) -> None:
    assert positions_of(answer(b'{"retry": [0]}', status), SIZE) is None


def test_asking_for_a_retry_makes_a_failed_attempt_of_an_accepted_request() -> None:
    outcome = Outcome(1, 200, duration_ms=12, body=b'{"retry": [0]}')
    failed = asked_to_retry(outcome)
    assert not succeeded(failed)
    assert reason_of(failed) == "the endpoint asked for a retry"
    assert (failed.job, failed.duration_ms, failed.body) == (1, 12, outcome.body)
