"""What is answered for which outcomes."""

from __future__ import annotations

import pytest

from broker_client.reception import Kind, Outcome
from broker_client.replies import reply_to_batch, reply_to_one

DONE = Outcome("processed")
REPEAT = Outcome("duplicate")
FAILED = Outcome("failed")
RETRY = Outcome("retry")
DEAD = Outcome("dead-letter", reason="no such customer")
LATER = Outcome("later")
HANDLED = Outcome("handled")


@pytest.mark.parametrize("kind", ["processed", "duplicate"])
def test_one_that_is_done_gets_a_receipt(kind: Kind) -> None:
    reply = reply_to_one(Outcome(kind))

    assert (reply.status, reply.document, reply.headers) == (204, None, {"Webhook-Receipt": kind})


def test_one_that_failed_gets_a_problem_that_tells_nothing_inside() -> None:
    reply = reply_to_one(FAILED)

    assert (reply.status, reply.content_type) == (500, "application/problem+json")
    assert reply.document["code"] == "handler_failed"


@pytest.mark.parametrize(("after_s", "header"), [(None, None), (0.0, "0"), (7.0, "7"), (7.2, "8")])
def test_a_retry_says_when_in_whole_seconds(after_s: float | None, header: str | None) -> None:
    reply = reply_to_one(Outcome("retry", after_s=after_s))

    assert reply.headers["Webhook-Verdict"] == "retry"
    assert reply.headers.get("Retry-After") == header


@pytest.mark.parametrize(("outcome", "status"), [(RETRY, 200), (DEAD, 200), (LATER, 202)])
def test_a_verdict_comes_with_a_2xx_and_no_receipt(outcome: Outcome, status: int) -> None:
    reply = reply_to_one(outcome)

    assert (reply.status, reply.headers) == (status, {"Webhook-Verdict": outcome.kind})


def test_who_reads_the_status_only_cannot_take_a_verdict_for_an_ack() -> None:
    assert reply_to_one(RETRY, by_status=True).status == 409
    assert reply_to_one(DEAD, by_status=True).status == 422


def test_one_that_no_inbox_knows_gets_no_receipt() -> None:
    reply = reply_to_one(HANDLED)

    assert (reply.status, reply.headers) == (204, {})


def test_a_dead_letter_says_why() -> None:
    reply = reply_to_one(DEAD)

    assert reply.headers == {"Webhook-Verdict": "dead-letter"}
    assert reply.document["reason"] == "no such customer"


@pytest.mark.parametrize(
    ("outcomes", "receipt"),
    [
        ([DONE, REPEAT], "processed"),
        ([REPEAT, REPEAT], "duplicate"),
    ],
)
def test_a_batch_that_is_done_gets_one_receipt(outcomes: list[Outcome], receipt: str) -> None:
    reply = reply_to_batch(outcomes)

    assert (reply.status, reply.headers) == (204, {"Webhook-Receipt": receipt})


def test_an_empty_batch_is_done_and_gets_no_receipt() -> None:
    reply = reply_to_batch([])

    assert (reply.status, reply.headers) == (204, {})


def test_a_batch_singles_out_what_is_not_done() -> None:
    reply = reply_to_batch([DONE, FAILED, DEAD, REPEAT, RETRY])

    assert reply.status == 200
    assert reply.document == {"retry": [1, 4], "dead_letter": [2]}
    assert reply.headers == {"Webhook-Receipt": "processed"}


def test_a_batch_of_which_nothing_is_done_has_failed() -> None:
    assert reply_to_batch([FAILED, RETRY]).status == 500
    assert reply_to_batch([FAILED, FAILED]).status == 500


def test_a_batch_that_asks_to_be_sent_again_has_not_failed() -> None:
    reply = reply_to_batch([RETRY, RETRY])

    assert (reply.status, reply.headers) == (200, {})
    assert reply.document == {"retry": [0, 1], "dead_letter": []}


def test_a_batch_that_no_inbox_knows_gets_no_receipt() -> None:
    assert reply_to_batch([HANDLED, HANDLED]).headers == {}
    reply = reply_to_batch([HANDLED, FAILED])
    assert (reply.status, reply.headers) == (200, {})
    assert reply.document == {"retry": [1], "dead_letter": []}


def test_a_batch_of_dead_letters_only_has_no_receipt() -> None:
    reply = reply_to_batch([DEAD, RETRY])

    assert (reply.status, reply.headers) == (200, {})
    assert reply.document == {"retry": [1], "dead_letter": [0]}
