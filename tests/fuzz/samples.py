"""Events that filters and expressions are tried with."""

from __future__ import annotations

from typing import Any

import msgspec

_MINIMAL: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
ATTRIBUTES: tuple[dict[str, Any], ...] = (
    _MINIMAL,
    {
        **_MINIMAL,
        "type": "order.created",
        "subject": "a%_'\"\\",
        "time": "2026-01-31T12:00:00Z",
        "partitionkey": "7",
        "n": -(2**31),
        "yes": True,
        "empty": "",
        "text": "€" * 200 + "true",
    },
)
EVENTS = tuple(msgspec.json.encode(each) for each in ATTRIBUTES)
