"""Signatures of Standard Webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from broker_client import InvalidSignature, verify
from broker_client.signatures import is_secret, new_secret, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = new_secret()


def now() -> datetime:
    return datetime.now(UTC)


def test_the_standards_test_vector_is_signed_as_published() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)

    headers = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text())
def test_what_the_standards_package_signs_is_accepted(body: str) -> None:
    at = now()
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": Webhook(SECRET).sign("msg_1", at, body),
    }

    verify(SECRET, headers, body.encode())


@given(st.binary())
def test_any_bytes_can_be_signed(body: bytes) -> None:
    headers = sign(SECRET, "msg_1", now(), body)

    verify(SECRET, headers, body)
    with pytest.raises(InvalidSignature):
        verify(SECRET, headers, body + b"\x00")


def test_either_secret_is_accepted_while_one_replaces_the_other() -> None:
    by_old, by_new = (sign(secret, "msg_1", now(), b"x") for secret in (SECRET, OTHER))
    both = f"{by_new['webhook-signature']} {by_old['webhook-signature']}"

    verify([OTHER, SECRET], by_old, b"x")
    verify([OTHER, SECRET], by_new, b"x")
    verify(SECRET, {**by_new, "webhook-signature": both}, b"x")


@pytest.mark.parametrize("seconds", [-290, 290])
def test_clocks_may_differ_by_five_minutes(seconds: int) -> None:
    verify(SECRET, sign(SECRET, "msg_1", now() + timedelta(seconds=seconds), b"x"), b"x")


@pytest.mark.parametrize("seconds", [-310, 310])
def test_a_signature_of_another_time_is_refused(seconds: int) -> None:
    headers = sign(SECRET, "msg_1", now() + timedelta(seconds=seconds), b"x")

    with pytest.raises(InvalidSignature, match="timestamp too"):
        verify(SECRET, headers, b"x")


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "nan"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v2,AAAA"},
    ],
)
def test_changed_headers_are_refused(change: dict[str, str]) -> None:
    headers = {**sign(SECRET, "msg_1", now(), b"x"), **change}

    with pytest.raises(InvalidSignature):
        verify(SECRET, headers, b"x")


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_missing_headers_are_refused(name: str) -> None:
    headers = sign(SECRET, "msg_1", now(), b"x")
    del headers[name]

    with pytest.raises(InvalidSignature, match="Missing"):
        verify(SECRET, headers, b"x")


def test_an_old_request_cannot_be_passed_off_as_new() -> None:
    old = now() - timedelta(days=1)
    body = f"{int(now().timestamp())}.rest".encode()
    headers = sign(SECRET, "msg_1", old, body)
    timestamp, _, rest = body.partition(b".")
    forged = {
        "webhook-id": f"msg_1.{headers['webhook-timestamp']}",
        "webhook-timestamp": timestamp.decode(),
        "webhook-signature": headers["webhook-signature"],
    }

    with pytest.raises(InvalidSignature):
        verify(SECRET, forged, rest)


def test_another_secret_is_refused() -> None:
    with pytest.raises(InvalidSignature, match="No matching"):
        verify(OTHER, sign(SECRET, "msg_1", now(), b"x"), b"x")


def test_no_secret_accepts_nothing() -> None:
    with pytest.raises(InvalidSignature):
        verify([], sign(SECRET, "msg_1", now(), b"x"), b"x")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_é", "whsec_a"])
def test_a_secret_that_is_none_is_told_and_not_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="a webhook secret is") as caught:
        verify(secret, {}, b"")

    assert caught.value.__suppress_context__


def test_new_secrets_are_all_different() -> None:
    assert len({new_secret() for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (SECRET, True),
        pytest.param(OTHER, True, id="made anew"),
        (SECRET.removeprefix("whsec_"), False),
        ("whsec_" + "A" * 28, False),
        ("whsec_" + "A" * 32, True),
        ("whsec_" + "A" * 88, False),
        ("whsec_ not base64", False),
    ],
)
def test_secrets_are_told_from_what_is_none(text: str, answer: bool) -> None:
    assert is_secret(text) is answer
