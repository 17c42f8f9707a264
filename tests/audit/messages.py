"""The messages that the audit publishes: known by their id, all of them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from support.cloudevent import Json, event

SOURCE = "/audit"


def message(id: str, key: str | None, due_at: str | None = None) -> Json:
    """Make a message; its key and data follow from its id, so that a receiver can check them."""
    attributes = {"partitionkey": key, "deliverat": due_at}
    present = {name: value for name, value in attributes.items() if value is not None}
    return event(id=id, source=SOURCE, type="audit", data=data_of(id, key), **present)


def data_of(id: str, key: str | None) -> dict[str, Any]:
    """Give a message's data: up to two thousand bytes of text."""
    digest = sha256(id.encode()).hexdigest()
    return {"id": id, "key": key, "text": digest * (int(digest[:4], 16) % 32)}
