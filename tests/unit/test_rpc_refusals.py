"""Refusals that another broker has answered with."""

import grpc
import pytest

from broker.auth import Forbidden
from broker.errors import (
    BrokerError,
    Fault,
    InvalidRequest,
    NoOwner,
    OutcomeUnknown,
    TopicNotFound,
)
from broker.rpc.refusals import DETAILS, refusal_in, refusal_of, status_of


@pytest.mark.parametrize(
    "error",
    [
        NoOwner(),
        OutcomeUnknown(),
        TopicNotFound("none"),
        Forbidden({"publish"}, "order"),
        InvalidRequest([Fault("events[0].id", "must be there"), Fault("topic", "must fit")]),
        BrokerError("Something went wrong."),
    ],
    ids=lambda error: error.code,
)
def test_refusal_of_a_call_is_told_within_a_stream(error: BrokerError) -> None:
    trailer = [("other", "1"), (DETAILS, status_of(error).SerializeToString())]

    read = refusal_in("said", grpc.StatusCode.UNKNOWN, trailer)

    assert read == refusal_of(error)


def test_failure_without_details_is_told_by_its_code() -> None:
    read = refusal_in("too long", grpc.StatusCode.RESOURCE_EXHAUSTED, [])

    assert (read.status, read.code, read.detail) == (8, "internal_error", "too long")
