"""A process that appends and settles in a burst until it is killed, set by its environment.

It says on its standard output what is durable, a line each: `stored SEQ DATA`, `settled SEQ`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import count

from broker.config import settings_from
from broker.model import ExceptionRow, NewMessage
from broker.store.opening import open_store
from broker.store.port import Changes, Shard, Store

WRITERS = 8
TOPIC = "orders"


async def append(store: Store, numbers: Sequence[int]) -> None:
    """Append messages that carry numbers; tell their seqs."""
    data = [b"%d" % number for number in numbers]
    appended = await store.append(
        TOPIC, [NewMessage("", "/s", None, b'{"type":"t"}', each, None) for each in data]
    )
    for each, number in zip(appended, numbers, strict=True):
        print(f"stored {each.sequence} {number}", flush=True)


async def write(store: Store, numbers: count[int]) -> None:
    """Append one or three messages at a time, for ever."""
    for round_ in count():
        await append(store, [next(numbers) for _ in range(1 + 2 * (round_ % 2))])


async def settle(shard: Shard) -> None:
    """Settle or give a row to whatever comes, and tell what is durable."""
    while True:
        shard.bell.clear()
        for message in await shard.fetch(5):
            if message.seq % 3:
                await shard.commit(Changes(done=[message.seq]), soon=True)
                print(f"settled {message.seq}", flush=True)
            else:
                row = ExceptionRow(message.seq, None, "retry", 1, 0.0, "http_500")
                await shard.commit(Changes(put=[row]), soon=True)
                print(f"row {message.seq}", flush=True)
        else:
            await asyncio.sleep(0)


async def main() -> None:
    """Write until killed."""
    store = open_store(settings_from(os.environ), print)
    await store.open()
    if not store.documents(f"topic/{TOPIC}"):
        await store.create_topic(TOPIC, {})
        await store.create_subscription(TOPIC, "mail", {}, start=1)
    numbers = count(store.topic_stats(TOPIC).message_count * 1000)
    shard = await anext(store.claim())
    await asyncio.gather(settle(shard), *(write(store, numbers) for _ in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main())
