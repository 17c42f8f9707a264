"""Secrets and signatures, held against Standard Webhooks' own words and its package."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from broker.signing import PREFIX, key_of, new_secret, signature_header

# The test vector of the Standard Webhooks reference libraries.
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIMESTAMP = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def secret_of(key: bytes) -> str:
    return PREFIX + base64.b64encode(key).decode()


def test_signature_is_that_of_the_standards_vector() -> None:
    key = key_of(VECTOR_SECRET)
    signed = signature_header([key], VECTOR_ID, VECTOR_TIMESTAMP, VECTOR_BODY)
    assert signed == VECTOR_SIGNATURE


@given(st.binary(min_size=24, max_size=64), st.text(max_size=200))
def test_signature_is_accepted_by_the_standards_package(key: bytes, text: str) -> None:
    body = json.dumps(text).encode()
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature_header([key], "msg_1", now, body),
    }
    assert Webhook(secret_of(key)).verify(body, headers) == text
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_of(key)).verify(body + b" ", headers)


def test_each_key_signs_and_the_newest_comes_first() -> None:
    new, old = bytes(24), bytes(range(32))
    alone = [signature_header([key], "msg_1", 1, b"x") for key in (new, old)]
    assert signature_header([new, old], "msg_1", 1, b"x") == " ".join(alone)


@given(st.binary(min_size=24, max_size=64))
def test_key_comes_back_out_of_its_secret(key: bytes) -> None:
    assert key_of(secret_of(key)) == key
    assert key_of(secret_of(key).rstrip("=")) == key


def test_new_secrets_are_valid_and_differ() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(key_of(secret)) for secret in made} == {32}


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        secret_of(bytes(23)),
        secret_of(bytes(65)),
        "whsec_" + "!" * 32,
        "whsec_" + "é" * 32,
        "whsec_" + "A" * 33,
        "whsec_ MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ],
)
def test_wrong_secret_is_refused_by_the_rule_it_breaks(secret: str) -> None:
    with pytest.raises(ValueError, match=r"must (begin|be|hold)"):
        key_of(secret)
