"""A body is read whole, and only for so long."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from broker.api import publish
from broker.errors import RequestTooSlow

pytestmark = pytest.mark.anyio


async def test_body_that_trickles_is_refused_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "BODY_S", 0.05)

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(RequestTooSlow):
        await publish.read_body(receive, 0, 1024 * 1024)


async def test_body_in_pieces_is_put_together() -> None:
    events = [
        {"type": "http.request", "body": b"one ", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return events.pop(0)

    assert await publish.read_body(receive, 7, 7) == b"one two"
