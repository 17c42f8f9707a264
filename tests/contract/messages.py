"""Messages to store, and what tests do with a store again and again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from broker.model import ExceptionRow, Message, NewMessage, RowState
from broker.store.port import Changes, Shard, Store

TOPIC, SUBSCRIPTION = "orders", "mail"


def new_message(
    id_: str = "",
    *,
    source: str = "/shop",
    key: str | None = None,
    type_: str = "order.placed",
    data: bytes | None = b"{}",
) -> NewMessage:
    """Make a message; one with an id of the publisher's own is told from others by its data."""
    fingerprint = hashlib.sha256(data or b"").digest() if id_ else None
    attributes = json.dumps({"id": id_ or "made", "source": source, "type": type_}).encode()
    return NewMessage(id_ or "made", source, key, attributes, data, fingerprint)


async def publish(store: Store, *messages: NewMessage, topic: str = TOPIC) -> list[int]:
    """Append messages; return the seq of each."""
    appended = await store.append(topic, messages)
    return [each.sequence for each in appended if each.sequence is not None]


async def publish_keys(store: Store, *keys: str | None) -> list[int]:
    """Append a message for each key; return their seqs."""
    return await publish(store, *[new_message(key=key) for key in keys])


async def read_all(store: Store, topic: str = TOPIC) -> list[Message]:
    """Return everything a topic holds, read in small pages."""
    found: list[Message] = []
    after: int | None = 0
    while after is not None:
        page, after = await store.read(topic, after, 7)
        found += page
    return found


async def own(store: Store) -> Shard:
    """Claim the next shard."""
    return await anext(store.claim())


async def fetch_all(shard: Shard) -> list[int]:
    """Fetch until there is nothing new; return the seqs."""
    found: list[int] = []
    while page := await shard.fetch(3):
        found += seqs_of(page)
    return found


def seqs_of(messages: Sequence[Message]) -> list[int]:
    """Return the seq of each message."""
    return [message.seq for message in messages]


def row(
    seq: int,
    state: RowState,
    key: str | None = None,
    *,
    attempts: int = 1,
    due_at: float = 0.0,
    reason: str = "http_500",
) -> ExceptionRow:
    """Make an exception row."""
    return ExceptionRow(seq, key, state, attempts, due_at, reason)


async def put(shard: Shard, *rows: ExceptionRow) -> None:
    """Write rows, durable on return."""
    await shard.commit(Changes(put=rows), soon=True)


async def settle(shard: Shard, *seqs: int) -> None:
    """Settle messages without a row, durable on return."""
    await shard.commit(Changes(done=seqs), soon=True)
