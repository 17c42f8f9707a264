"""The token of an ack URL or an ack id, and the verdict that is sent there."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import msgspec

from broker.ack_urls import Claim, claim_in, token_of
from broker.deliveries import _verdict_of
from broker.errors import InvalidRequest
from fuzz.events import check_refusal

KEYS = [bytes(range(32)), bytes(24)]
SMALL = 2**40


def check(data: bytes) -> None:
    """Take bytes for a token, for what a claim is made of, and for a verdict's body."""
    token = data.decode("latin-1")
    claim = claim_in(token, KEYS)
    if claim is not None:
        assert claim.seqs
        assert any(_raw(token) == _raw(token_of(claim, key)) for key in KEYS), "forged"
    mine = _claim(data)
    _check_own(mine)
    _check_verdict(data, mine)


def _raw(token: str) -> bytes:
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))


def _claim(data: bytes) -> Claim:
    numbers = [int.from_bytes(data[at : at + 5], "big") for at in range(0, min(len(data), 50), 5)]
    numbers = [*numbers, 1, 1]
    return Claim(numbers[0] % 1024, numbers[1], numbers[1:], [n % 1000 for n in numbers[1:]])


def _check_own(claim: Claim) -> None:
    for key in KEYS:
        token = token_of(claim, key)
        assert claim_in(token, KEYS) == claim
        assert claim_in(token, [b"another key"]) is None
        at = claim.generation % len(token)
        other = "A" if token[at] != "A" else "B"
        changed = token[:at] + other + token[at + 1 :]
        assert _raw(changed) == _raw(token) or claim_in(changed, KEYS) is None
        assert claim_in(token[:at], KEYS) is None


def _check_verdict(data: bytes, claim: Claim) -> None:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if not isinstance(body, dict):
        return
    try:
        verdict = _verdict_of(body, claim)
    except InvalidRequest as refusal:
        check_refusal(refusal)
        return
    positions = verdict.positions
    assert verdict.verdict in {"ack", "retry", "dead-letter", "extend"}
    assert positions.retry | positions.dead_letter <= set(range(len(claim.seqs)))
    assert not positions.retry & positions.dead_letter
