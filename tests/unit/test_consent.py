"""What an endpoint is asked before it is sent to, and what its answer means."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.consent import (
    MAX_PAUSE_S,
    MIN_PAUSE_S,
    Agreement,
    NoConsent,
    Question,
    covers,
    judge,
    origin_of,
    pause_s,
    requests_a_minute,
)

HOOK, SHOP = "https://a.example/hook", "shop.example"
QUESTION = Question(HOOK, SHOP, None, required=True)
IF_SUPPORTED = replace(QUESTION, required=False)
AGREED = Agreement(HOOK, SHOP)
UNSUPPORTED = Agreement(HOOK, SHOP, supported=False)
ORIGIN, RATE = "webhook-allowed-origin", "webhook-allowed-rate"

Found = Agreement | NoConsent


def outcome_of(found: Found) -> str:
    """Name what was judged."""
    if isinstance(found, Agreement):
        return "agreed" if found.supported else "unsupported"
    return "refused" if found.refused else "awaited"


# -- the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "required", "if_supported"),
    [
        (200, {ORIGIN: SHOP}, "agreed", "agreed"),
        (204, {ORIGIN: "*", RATE: "*"}, "agreed", "agreed"),
        (200, {ORIGIN: " Shop.Example "}, "agreed", "agreed"),
        (405, {ORIGIN: SHOP}, "agreed", "agreed"),  # the headers count, and not the status
        (200, {ORIGIN: "other.example"}, "refused", "refused"),
        (403, {ORIGIN: "other.example"}, "refused", "refused"),
        (200, {ORIGIN: f"{SHOP}, other.example"}, "refused", "refused"),
        (200, {ORIGIN: ""}, "refused", "refused"),
        (200, {RATE: "100"}, "refused", "refused"),
        *((200, {ORIGIN: SHOP, RATE: rate}, "refused", "refused") for rate in ("0", "-1", "1.5")),
        *((200, {ORIGIN: "*", RATE: rate}, "refused", "refused") for rate in ("", "many", "٣")),
        (200, {ORIGIN: "*", RATE: "9" * 5000}, "refused", "refused"),
        *((s, {}, "awaited", "unsupported") for s in (200, 204, 301, 400, 401, 403, 404, 405, 501)),
        (200, {"webhook-receipt": "processed"}, "awaited", "unsupported"),
        *((status, {}, "awaited", "awaited") for status in (0, 408, 429, 500, 502, 503, 504)),
    ],
)
def test_answer_means(
    status: int, headers: dict[str, str], required: str, if_supported: str
) -> None:
    assert outcome_of(judge(QUESTION, status, headers, "refused")) == required
    assert outcome_of(judge(IF_SUPPORTED, status, headers, "refused")) == if_supported


@given(st.integers(0, 599), st.dictionaries(st.sampled_from([ORIGIN, RATE, "x"]), st.text()))
def test_only_its_own_name_or_any_is_consent_where_it_is_required(
    status: int, headers: dict[str, str]
) -> None:
    found = judge(QUESTION, status, headers, "no answer")

    if isinstance(found, Agreement):
        assert status
        assert found.supported
        assert headers[ORIGIN].strip().lower() in {SHOP, "*"}
    else:
        assert found.reason


@pytest.mark.parametrize(("rate", "allowed"), [("*", None), ("1", 1), (" 300 ", 300), (None, None)])
def test_agreement_keeps_the_rate_that_is_allowed_and_the_one_asked_for(
    rate: str | None, allowed: int | None
) -> None:
    headers = {ORIGIN: "*"} if rate is None else {ORIGIN: "*", RATE: rate}

    found = judge(replace(QUESTION, rate=600), 200, headers, "")

    assert found == Agreement(HOOK, SHOP, asked_rate=600, allowed_rate=allowed)


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (0, {}, "the endpoint refused the connection"),
        (405, {}, "405 without WebHook-Allowed-Origin"),
        (503, {}, "503"),
        (200, {ORIGIN: "other.example"}, 'allows "other.example", not "shop.example"'),
        (200, {RATE: "7"}, "allows no origin"),
        (200, {ORIGIN: "*", RATE: "many"}, 'WebHook-Allowed-Rate "many"'),
    ],
)
def test_reason_says_what_is_missing(status: int, headers: dict[str, str], told: str) -> None:
    found = judge(QUESTION, status, headers, "the endpoint refused the connection")

    assert isinstance(found, NoConsent)
    assert told in found.reason


# -- what is known already -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agreement", "question", "covered"),
    [
        (None, QUESTION, False),
        (AGREED, QUESTION, True),
        (AGREED, IF_SUPPORTED, True),
        (AGREED, replace(QUESTION, endpoint=HOOK + "s"), False),
        (AGREED, replace(QUESTION, origin="other.example"), False),
        (AGREED, replace(QUESTION, rate=7), True),
        (UNSUPPORTED, IF_SUPPORTED, True),
        (UNSUPPORTED, QUESTION, False),
        (UNSUPPORTED, replace(IF_SUPPORTED, origin="other.example"), True),
        (replace(AGREED, asked_rate=60), QUESTION, True),  # any rate was allowed
        (replace(AGREED, asked_rate=60, allowed_rate=60), replace(QUESTION, rate=60), True),
        (replace(AGREED, asked_rate=60, allowed_rate=60), replace(QUESTION, rate=59), True),
        (replace(AGREED, asked_rate=60, allowed_rate=60), replace(QUESTION, rate=61), False),
        (replace(AGREED, asked_rate=60, allowed_rate=60), QUESTION, False),
        (replace(AGREED, allowed_rate=60), replace(QUESTION, rate=600), True),
    ],
)
def test_agreement_covers_a_question(
    agreement: Agreement | None, question: Question, covered: bool
) -> None:
    assert covers(agreement, question) is covered


@given(
    st.builds(Question, st.just(HOOK), st.just(SHOP), st.none() | st.integers(1), st.booleans()),
    st.sampled_from([200, 405]),
    st.fixed_dictionaries(
        {}, optional={ORIGIN: st.sampled_from([SHOP, "*"]), RATE: st.sampled_from(["*", "60"])}
    ),
)
def test_what_was_agreed_to_is_not_asked_again(
    question: Question, status: int, headers: dict[str, str]
) -> None:
    found = judge(question, status, headers, "")

    assert not isinstance(found, Agreement) or covers(found, question)


# -- the question --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        (None, "broker"),
        ("https://Events.Example.com:8443/broker", "events.example.com"),
        ("http://[::1]:8080", "::1"),
    ],
)
def test_origin_is_the_public_host(public_url: str | None, origin: str) -> None:
    assert origin_of(public_url) == origin


@pytest.mark.parametrize(
    ("rate_limit", "rate"), [(None, None), (10, 600), (2.5, 150), (0.001, 1), (0.025, 2)]
)
def test_rate_is_asked_for_in_whole_requests_a_minute(
    rate_limit: float | None, rate: int | None
) -> None:
    assert requests_a_minute(rate_limit) == rate


def test_question_has_a_rate_only_where_there_is_a_limit() -> None:
    assert QUESTION.headers() == ["webhook-request-origin: shop.example"]
    assert replace(QUESTION, rate=7).headers()[1:] == ["webhook-request-rate: 7"]


@given(st.integers(1, 10**6))
def test_pauses_grow_up_to_a_bound(asked: int) -> None:
    assert MIN_PAUSE_S <= pause_s(asked) <= pause_s(asked + 1) <= MAX_PAUSE_S
    assert pause_s(1) == MIN_PAUSE_S
    assert pause_s(asked) == MAX_PAUSE_S or pause_s(asked + 1) > pause_s(asked)
