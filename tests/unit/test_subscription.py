"""What a PUT makes of a subscription."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import InvalidRequest
from broker.signing import key_of
from broker.subscription import (
    SECRET_OVERLAP_S,
    OldSecret,
    RetryPolicy,
    Subscription,
    updated,
)
from support.signature import new_secret

NOW = 1000.0
FRESH = Subscription("orders", "mail", new_secret(1))
CHANGED = Subscription(
    "orders",
    "mail",
    new_secret(1),
    endpoint="https://a.example/hook",
    ordering="none",
    format="batch",
    max_batch=7,
    max_in_flight=3,
    timeout_s=2.5,
    retry=RetryPolicy(5, 0.5, 60),
    headers={"x-team": "blue"},
    created_at=5.0,
)

endpoints = st.sampled_from(["http://a", "https://b.example:8443/x?y=z", "http://[::1]:80/"])
retries: dict[str, st.SearchStrategy[Any]] = {
    "max_attempts": st.integers(0, 1000),
    "min_backoff_s": st.floats(0, 10),
    "max_backoff_s": st.floats(10, 86400),
}
fields: dict[str, st.SearchStrategy[Any]] = {
    "endpoint": endpoints,
    "guarantee": st.just("at-least-once"),
    "ordering": st.sampled_from(["key", "topic", "none"]),
    "format": st.sampled_from(["binary", "structured", "batch"]),
    "max_batch": st.integers(1, 1000),
    "max_in_flight": st.integers(1, 1024),
    "timeout_s": st.floats(0.05, 600) | st.integers(1, 600),
    "headers": st.dictionaries(st.sampled_from(["X-A", "authorization"]), st.sampled_from("ab")),
}


def optional(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={k: v | st.none() for k, v in values.items()})


bodies = optional({**fields, "retry": optional(retries)})


def put(before: Subscription, **body: Any) -> Subscription:
    after, _ = updated(before, body, NOW)
    return after


def faults_of(**body: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        updated(CHANGED, body, NOW)
    assert all(fault.message for fault in refused.value.faults)
    return [fault.field for fault in refused.value.faults]


# -- what is given, left out, and null ---------------------------------------------------------


def test_empty_body_changes_nothing() -> None:
    assert updated(CHANGED, {}, NOW) == (CHANGED, "now")


@given(bodies)
def test_each_field_given_takes_its_value_null_its_default_and_others_stay(
    body: dict[str, Any],
) -> None:
    after = put(CHANGED, **body)
    retry = body.pop("retry", {})
    for name in fields:
        value = body.get(name, getattr(CHANGED, name))
        expected = getattr(FRESH, name) if name in body and value is None else value
        assert getattr(after, name) == expected
    for name in retries:
        if retry is None or (name in retry and retry[name] is None):
            expected = getattr(RetryPolicy(), name)
        else:
            expected = retry.get(name, getattr(CHANGED.retry, name))
        assert getattr(after.retry, name) == expected
    assert after.secret == CHANGED.secret
    assert after.created_at == CHANGED.created_at


@given(bodies)
def test_second_time_changes_nothing_more(body: dict[str, Any]) -> None:
    once = put(CHANGED, **body)
    assert put(once, **body) == once


def test_paused_subscription_stays_paused() -> None:
    paused = replace(CHANGED, paused=True, paused_reason="410")
    after = put(paused, max_in_flight=5)
    assert (after.paused, after.paused_reason) == (True, "410")


# -- filters -----------------------------------------------------------------------------------

PLACED = {"exact": {"type": "order.placed"}}


def test_filters_are_kept_in_storage_and_until_they_are_given_anew() -> None:
    after = put(CHANGED, filters=[PLACED, {"sql": "EXISTS subject"}])
    assert after.filters == (PLACED, {"sql": "EXISTS subject"})
    assert put(after, max_batch=8).filters == after.filters
    assert Subscription.from_document(json.loads(json.dumps(after.to_document()))) == after
    assert put(after, filters=[PLACED]).filters == (PLACED,)
    assert put(after, filters=None) == put(after, filters=[]) == CHANGED


def test_subscription_of_an_older_broker_has_no_filters() -> None:
    document = CHANGED.to_document()
    del document["filters"]
    assert Subscription.from_document(document) == CHANGED


def test_faults_of_filters_are_told_with_all_others() -> None:
    filters = [{"sql": "type ="}, {"any": [PLACED, {"prefix": {}}]}]
    fields = ["filters[0].sql", "filters[1].any[1].prefix", "max_batch"]
    assert faults_of(filters=filters, max_batch=0) == fields


# -- start -------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["now", "beginning", "2026-01-31T12:00:00Z", 0, 17, 2**53 - 1])
def test_start_is_handed_back_and_not_kept(start: str | int) -> None:
    assert updated(CHANGED, {"start": start}, NOW) == (CHANGED, start)


def test_start_null_is_now() -> None:
    assert updated(CHANGED, {"start": None}, NOW) == (CHANGED, "now")


@pytest.mark.parametrize(
    "start",
    ["", "Now", "later", "2026-02-30T00:00:00Z", "2026-01-31", -1, 1.5, True, 2**53, [], {}],
)
def test_wrong_start_is_refused(start: object) -> None:
    assert faults_of(start=start) == ["start"]


# -- wrong values ------------------------------------------------------------------------------

WRONG: dict[str, list[object]] = {
    "endpoint": [
        "",
        "a.example/hook",
        "ftp://a.example",
        "http://",
        "http:///hook",
        "http://user@a.example",
        "http://user:secret@a.example",
        "http://a.example/#part",
        "http://a.example:0/",
        "http://a.example:65536/",
        "http://a.example:http/",
        "http://[::1/",
        "http://20[01:db8::1]/",
        "http://[::1]x/",
        "http://a.example/a b",
        "http://a.example\\@b.example",
        "http://a.example/\n",
        "http://bücher.example",
        "http://a.example/" + "x" * 2048,
        7,
        ["http://a.example"],
    ],
    "guarantee": ["", "exactly-once-ish", "At-Least-Once", 1, ["at-least-once"]],
    "ordering": ["", "partition", "KEY", 1, {}],
    "format": ["", "json", 1, []],
    "max_batch": [0, 1001, -1, 1.5, "10", True, []],
    "max_in_flight": [0, 1025, -1, 1.5, "10", True, {}],
    "timeout_s": [0, 0.01, 601, -1, "15", True, [], float("nan"), float("inf")],
    "headers": [
        "X-A: b",
        ["X-A"],
        {"": "b"},
        {"X A": "b"},
        {"X-A\r\nX-B": "b"},
        {"X-A": "b\r\nX-B: c"},
        {"X-A": "é"},
        {"X-A": 1},
        {"X-A": None},
        {"X-A": "b" * 4097},
        {f"x-{n}": "" for n in range(51)},
        *[
            {name: "b"}
            for name in (
                "Webhook-Id",
                "webhook-signature",
                "ce-id",
                "Content-Type",
                "content-length",
                "Host",
                "User-Agent",
                "Transfer-Encoding",
                "Connection",
                "Proxy-Authorization",
                "TE",
            )
        ],
    ],
    "retry": [7, "often", [], True],
    "retry.max_attempts": [-1, 1001, 1.5, "3", True, []],
    "retry.min_backoff_s": [-1, 86401, "1", True, float("nan"), {}],
    "retry.max_backoff_s": [-1, 86401, "1", True, float("inf"), {}],
    "secret": ["", "x", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", 7, [], "whsec_" + "é" * 32],
    "filters": ["type", {}, 7],
    "colour": [1, "red"],
    "retry.colour": [1],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_wrong_value_names_its_field(field: str, value: object) -> None:
    outer, _, inner = field.partition(".")
    assert faults_of(**{outer: {inner: value} if inner else value}) == [field]


def test_all_faults_are_told_at_once() -> None:
    body: dict[str, Any] = {field: values[0] for field, values in WRONG.items()}
    inner = {field: body.pop(field) for field in WRONG if "." in field}
    body["retry"] = {field.removeprefix("retry."): value for field, value in inner.items()}
    assert set(faults_of(**body, start="later")) == {*body, *inner, "start"} - {"retry"}


def test_backoff_may_not_end_before_it_begins() -> None:
    assert faults_of(retry={"min_backoff_s": 61}) == ["retry.max_backoff_s"]
    assert put(CHANGED, retry={"min_backoff_s": 60}).retry.min_backoff_s == 60


def test_refused_field_is_told_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest) as refused:
        updated(CHANGED, {"colour": "red"}, NOW)
    assert "endpoint" in refused.value.detail


# -- secrets -----------------------------------------------------------------------------------


def test_same_secret_again_changes_nothing() -> None:
    assert put(CHANGED, secret=CHANGED.secret) == CHANGED
    assert put(CHANGED, secret=None) == CHANGED


def test_other_secret_keeps_the_old_one_signing_for_a_day() -> None:
    after = put(CHANGED, secret=new_secret(2))
    assert after.secret == new_secret(2)
    assert after.old_secrets == (OldSecret(new_secret(1), NOW + SECRET_OVERLAP_S),)
    both = [key_of(new_secret(2)), key_of(new_secret(1))]
    assert after.signing_keys(NOW + SECRET_OVERLAP_S - 1) == both
    assert after.signing_keys(NOW + SECRET_OVERLAP_S) == both[:1]


def test_secret_replaced_twice_keeps_both_and_drops_what_has_ended() -> None:
    second = put(CHANGED, secret=new_secret(2))
    third, _ = updated(second, {"secret": new_secret(3)}, NOW + 10)
    assert [old.secret for old in third.old_secrets] == [new_secret(2), new_secret(1)]
    later, _ = updated(third, {"secret": new_secret(4)}, NOW + SECRET_OVERLAP_S + 5)
    assert [old.secret for old in later.old_secrets] == [new_secret(3), new_secret(2)]


def test_secret_that_comes_back_signs_once() -> None:
    back = put(put(CHANGED, secret=new_secret(2)), secret=new_secret(1))
    assert back.secret == new_secret(1)
    assert [old.secret for old in back.old_secrets] == [new_secret(2)]


# -- documents ---------------------------------------------------------------------------------


def stored(subscription: Subscription) -> Any:
    return json.loads(json.dumps(subscription.to_document()))


@given(bodies, st.sampled_from([new_secret(1), new_secret(2)]))
def test_stored_document_brings_it_back(body: dict[str, Any], secret: str) -> None:
    subscription = put(CHANGED, **body, secret=secret)
    assert Subscription.from_document(stored(subscription)) == subscription


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document,
        lambda document: document["retry"],
        lambda document: document["old_secrets"][0],
    ],
    ids=["subscription", "retry", "old secret"],
)
def test_fields_of_a_newer_broker_are_ignored(spoil: Callable[[Any], Any]) -> None:
    subscription = put(CHANGED, secret=new_secret(2))
    document = stored(subscription)
    spoil(document)["colour"] = "red"
    assert Subscription.from_document(document) == subscription


def test_fields_of_an_older_broker_have_their_defaults() -> None:
    document = {"topic": "orders", "name": "mail", "secret": FRESH.secret}
    assert Subscription.from_document(document) == FRESH


def test_webhook_is_what_has_an_endpoint() -> None:
    assert CHANGED.webhook()
    assert not FRESH.webhook()
