"""A webhook request's signature, made by the broker and checked by the client library.

The input is a head with a `secret`, the request's headers, and its body.
"""

from __future__ import annotations

import base64
import hmac
import time

from broker.signing import PREFIX, key_of, signature_header
from broker_client import InvalidSignature
from broker_client.signatures import is_secret, verify
from fuzz.inputs import head_and_body

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
KEY = bytes(range(32))
PRESENT = 300.0


def check(data: bytes) -> None:
    """Check what anybody may send, and what the broker makes of the same id and body."""
    lines, body = head_and_body(data)
    headers = dict(lines)
    secret = headers.pop("secret", SECRET)
    key = _key_in(secret)
    _check_as_sent(headers, body)
    if key is not None:
        _check_signed(secret, key, headers.get("webhook-id", ""), body)


def _key_in(secret: str) -> bytes | None:
    try:
        key = key_of(secret)
    except ValueError as wrong:
        assert not is_secret(secret), "the client library takes a secret that the broker refuses"
        assert len(secret) <= len(PREFIX) or secret not in str(wrong), "the secret is told"
        return None
    assert 24 <= len(key) <= 64
    return key


def _check_as_sent(headers: dict[str, str], body: bytes) -> None:
    try:
        verify(SECRET, headers, body)
    except InvalidSignature:
        return
    at = float(headers["webhook-timestamp"])
    signed = f"{headers['webhook-id']}.{int(at)}.".encode() + body
    right = hmac.digest(KEY, signed, "sha256")
    entries = [entry.partition(",")[2] for entry in headers["webhook-signature"].split(" ")]
    assert right in {base64.b64decode(entry) for entry in entries}, "a forged one is taken"
    assert abs(at - time.time()) < PRESENT + 1, "an old one is taken"


def _check_signed(secret: str, key: bytes, webhook_id: str, body: bytes) -> None:
    if "." in webhook_id or not webhook_id:
        return
    now = int(time.time())
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(now),
        "webhook-signature": signature_header([KEY, key], webhook_id, now, body),
    }
    verify(secret, headers, body)
    verify(SECRET, headers, body)
    for other, changed in ((headers, body + b"x"), ({**headers, "webhook-id": "another"}, body)):
        if other == headers and changed == body:
            continue
        try:
            verify(secret, other, changed)
        except InvalidSignature:
            continue
        assert other["webhook-id"] == webhook_id, "a changed request is taken"
        assert changed == body, "a changed request is taken"
