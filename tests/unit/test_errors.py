"""Every refusal has a status, a stable code and a sentence, and renders as RFC 9457 wants."""

from __future__ import annotations

import json
import re

import pytest

from broker import errors
from broker.api.original import CannotConsume
from broker.api.problems import HttpRefusal, problem
from broker.api_keys import KeyNameTaken, KeyNotFound
from broker.auth import Forbidden, PublishRateExceeded, Unauthorized
from broker.cli.protocol import TooManyConnections
from broker.control.ops import NotReady
from broker.dashboard.admission import CrossSite
from broker.dashboard.guesses import TooManyGuesses
from broker.errors import BrokerError, Fault, InvalidRequest
from broker.pulls import NotPulled
from broker.rpc.patience import ReaderTooSlow
from broker.streams import TooManyStreams

REFUSALS = [
    BrokerError(),
    Unauthorized(),
    Forbidden(("read", "subscribe"), "orders"),
    PublishRateExceeded("orders", 2.5, 0.3),
    KeyNotFound("0a1b"),
    KeyNameTaken("orders"),
    NotPulled("orders", "mail"),
    CannotConsume("Nobody named mail has subscribed."),
    CrossSite(),
    TooManyGuesses(17),
    TooManyConnections(),
    TooManyStreams(2000),
    ReaderTooSlow(),
    NotReady("The courier is not running."),
    errors.MalformedRequest(),
    errors.RouteNotFound(),
    errors.MethodNotAllowed(),
    errors.TopicNotFound("orders"),
    errors.SubscriptionNotFound("orders", "mail"),
    errors.MessageNotFound("There is no message 7."),
    errors.DeliveryBusy(),
    errors.InvalidAckUrl(),
    errors.TooManyTopics(10_000),
    errors.TooManySubscriptions("orders", 10_000),
    errors.TopicInUse(),
    errors.EditConflict(),
    errors.HostNotAllowed("evil.example"),
    errors.IdReused(),
    errors.MessageTooLarge(),
    errors.RequestTooSlow(),
    errors.Overloaded(),
    errors.UnsupportedContent(),
    InvalidRequest([Fault("retry.max_attempts", "must be a whole number from 0 to 1000")]),
    errors.NoOwner(),
    errors.OutcomeUnknown(),
    errors.StoreUnavailable(),
    errors.StorageFull(),
]


def subclasses(kind: type[BrokerError]) -> set[type[BrokerError]]:
    below = set(kind.__subclasses__())
    return below.union(*map(subclasses, below))


def test_refusals_above_are_all_there_are() -> None:
    named = {type(refusal) for refusal in REFUSALS} | {HttpRefusal}
    ours = {kind for kind in subclasses(BrokerError) if kind.__module__.startswith("broker.")}
    assert named == ours | {BrokerError}


def test_codes_are_stable_words_and_unique() -> None:
    codes = [refusal.code for refusal in REFUSALS]
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_refusal_renders_as_a_problem(refusal: BrokerError) -> None:
    document = json.loads(problem(refusal))
    assert document.pop("errors", []) == [
        {"field": fault.field, "message": fault.message} for fault in refusal.faults
    ]
    assert document == {
        "type": f"https://errors.broker.example/{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
    }


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_refusal_says_what_is_wrong_in_a_sentence(refusal: BrokerError) -> None:
    assert 400 <= refusal.status <= 599
    assert re.fullmatch(r"[A-Z][^\n]* [^\n]*\.", refusal.title)
    assert refusal.detail.endswith(".")
    assert str(refusal) == refusal.detail


def test_detail_defaults_to_the_docstring() -> None:
    assert errors.EditConflict().detail == errors.EditConflict.__doc__


def test_not_found_names_what_is_missing_and_how_to_make_it() -> None:
    assert "PUT /v1/topics/orders" in errors.TopicNotFound("orders").detail
    missing = errors.SubscriptionNotFound("orders", "mail").detail
    assert "PUT /v1/topics/orders/subscriptions/mail" in missing


def test_invalid_request_keeps_every_fault_and_tells_the_first_three() -> None:
    faults = [Fault(name, f"bad {name}") for name in ("one", "two", "three", "four")]
    refusal = InvalidRequest(faults)
    assert refusal.faults == tuple(faults)
    assert "one: bad one; two: bad two; three: bad three." in refusal.detail
    assert "four" not in refusal.detail


@pytest.mark.parametrize(
    ("status", "code"), [(414, "uri_too_long"), (405, "method_not_allowed"), (408, None)]
)
def test_http_refusal_takes_its_words_from_the_status(status: int, code: str | None) -> None:
    refusal = HttpRefusal(status)
    assert refusal.status == status
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", refusal.code)
    assert refusal.detail == f"{refusal.title}."
    if code is not None and status != 414:  # Python renamed 414 from request_uri_too_long
        assert refusal.code == code
