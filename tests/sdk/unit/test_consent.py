"""What is answered to a broker that asks whether it may deliver."""

from __future__ import annotations

import pytest

from broker_client.consent import reply_to_question


@pytest.mark.parametrize(
    ("origins", "origin", "status", "allowed"),
    [
        ((), None, 204, None),
        ((), "broker", 204, None),
        (("broker",), None, 204, None),
        (("broker",), "broker", 204, "broker"),
        (("broker",), "Broker", 204, "Broker"),  # as it was asked
        (("a.example", "broker"), "broker", 204, "broker"),
        (("*",), "broker", 204, "*"),
        (("broker", "*"), "other", 204, "*"),
        (("broker",), "other", 403, "broker"),
        (("broker",), "", 403, "broker"),
        (("broker",), "broker.example", 403, "broker"),
    ],
)
def test_only_a_configured_origin_is_agreed_to(
    origins: tuple[str, ...], origin: str | None, status: int, allowed: str | None
) -> None:
    reply = reply_to_question(origins, origin)

    assert (reply.status, reply.headers.get("WebHook-Allowed-Origin")) == (status, allowed)
    assert reply.headers["Allow"] == "OPTIONS, POST"
    agreed = status == 204 and allowed is not None
    assert ("WebHook-Allowed-Rate" in reply.headers) is agreed
