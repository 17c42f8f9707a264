"""The body of a PUT of a subscription."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from broker.dispatch.endpoint import endpoint_of
from broker.dispatch.frames import decode_for_courier, framed, split
from broker.dispatch.plain import target_of
from broker.dispatch.transfers import host_of
from broker.errors import InvalidRequest
from broker.subscription import Subscription, updated
from fuzz.events import check_refusal

NOW = 1_800_000_000.0
BEFORE = Subscription("order", "shipping", "whsec_" + "A" * 32)


def check(data: bytes) -> None:
    """Apply fields; what is taken survives the store, changes nothing again, and can be sent to."""
    try:
        body = msgspec.json.decode(data)
        data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if not isinstance(body, dict):
        return
    try:
        after, _ = updated(BEFORE, body, NOW)
    except InvalidRequest as refusal:
        check_refusal(refusal)
        return
    stored = msgspec.json.decode(msgspec.json.encode(after.to_document()))
    assert Subscription.from_document(stored) == after
    assert updated(after, body, NOW)[0] == after
    if after.endpoint is not None:
        endpoint = endpoint_of(after, 1, "m", NOW)
        (told,) = split(framed(endpoint))
        assert decode_for_courier(told) == endpoint
        assert all("\n" not in line and "\r" not in line for line in endpoint.headers)
        # Whose host is allowed must be that which is dialled, and not what it looks like.
        host = urlsplit(after.endpoint).hostname
        assert host_of(after.endpoint).lower().rstrip("#") == host
        if (target := target_of(endpoint, "broker")) is not None:
            assert target.authority.rpartition(":")[0].strip("[]") == host
            assert len(target.head.split(b"\r\n")) in (
                len(endpoint.headers) + offset for offset in (4, 5)
            )
