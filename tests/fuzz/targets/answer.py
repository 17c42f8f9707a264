"""What an endpoint answers: status, headers and body, as hostile as an endpoint may be.

The input is a head, in it the `status`, and a body.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite
from typing import Any, cast

from broker.consent import Agreement, Question, covers, judge
from broker.dispatch.answer import MAX_BATCH_ANSWER_BYTES
from broker.dispatch.frames import (
    MAX_ANSWER_BYTES,
    Endpoint,
    Outcome,
    decode_outcomes,
    framed,
    split,
)
from broker.dispatch.policy import (
    MAX_HOLD_S,
    GiveUp,
    Gone,
    Later,
    Retry,
    Terms,
    counts_for_circuit,
    decide,
    hold_s,
)
from broker.dispatch.transfers import Transfer
from broker.dispatch.verdicts import positions_of
from broker.subscription import RetryPolicy
from broker_client.answers import parse_retry_after
from fuzz.inputs import head_and_body

NOW = 1_800_000_000.0
RETRY = RetryPolicy()
TERMS = [
    Terms(RETRY),
    Terms(RETRY, needs_receipt=True),
    Terms(RETRY, allow_later=True),
]
SIZE = 5


class Answered:
    """Stands for libcurl's handle, once an answer has come."""

    def __init__(self, status: int) -> None:
        self.status = status

    def getinfo(self, _: int) -> int:
        """Return the status."""
        return self.status


def check(data: bytes) -> None:
    """Take an answer in as the courier does, and decide as the worker does."""
    lines, body = head_and_body(data)
    status = _status(dict(lines).get("status", "200"))
    for format_, most in (("binary", MAX_ANSWER_BYTES), ("batch", MAX_BATCH_ANSWER_BYTES)):
        outcome = _outcome(format_, status, data.partition(b"\n\n")[0], body)
        assert len(outcome.body) <= most
        (told,) = split(framed([outcome]))
        assert decode_outcomes(told) == [outcome]
        _check_decided(outcome)
        _check_positions(outcome)
        _check_consent(outcome)
    for name, value in lines:
        if name == "retry-after":
            _check_client(value)


def _status(text: str) -> int:
    """Read a status; libcurl lets no lower one through."""
    return int(text) if text.isascii() and text.isdigit() and 100 <= int(text[:4]) < 1000 else 200


def _outcome(format_: str, status: int, head: bytes, body: bytes) -> Outcome:
    endpoint = Endpoint(1, "http://x/", format_, [b""], [], 1000, [], "m")
    transfer = Transfer(cast(Any, Answered(status)), endpoint, lambda: True)
    transfer.begin(1)
    transfer.headers += [line + b"\r\n" for line in head.split(b"\n")]
    transfer.headers.append(b"\r\n")
    ended = any(
        transfer.receive(body[start : start + 999]) == 0 for start in range(0, len(body), 999)
    )
    return transfer.outcome(23 if ended else 0)


def _check_decided(outcome: Outcome) -> None:
    assert 0 <= hold_s(outcome, NOW) <= MAX_HOLD_S
    assert isinstance(counts_for_circuit(outcome), bool)
    for terms in TERMS:
        for attempt in (1, RETRY.max_attempts):
            decision = decide(outcome, attempt, terms, NOW, lambda: 0.5)
            match decision:
                case Retry():
                    assert NOW <= decision.due_at <= NOW + MAX_HOLD_S
                    assert decision.error.encode()
                case GiveUp() | Gone():
                    assert decision.reason.encode()
                case Later():
                    assert terms.allow_later
                case _:
                    assert 200 <= outcome.status < 300


def _check_positions(outcome: Outcome) -> None:
    positions = positions_of(outcome, SIZE)
    assert positions.retry | positions.dead_letter <= set(range(SIZE))
    assert not positions.retry & positions.dead_letter


def _check_consent(outcome: Outcome) -> None:
    """Take the same answer for one to being asked for consent: only a clear yes is one."""
    headers = outcome.headers or {}
    for rate in (None, 60):
        question = Question("https://a.example/", "broker.example", rate, required=True)
        found = judge(question, outcome.status, headers, outcome.error)
        if isinstance(found, Agreement):
            assert headers["webhook-allowed-origin"].strip().lower() in {"*", "broker.example"}
            assert found.allowed_rate is None or found.allowed_rate > 0
            assert covers(found, question)
        else:
            assert found.reason.encode()


def _check_client(value: str) -> None:
    wait_s = parse_retry_after(value, datetime.fromtimestamp(NOW, UTC))
    assert wait_s is None or (isfinite(wait_s) and wait_s >= 0)
