"""Clients that go away while they wait for an answer."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from broker.api.publish import Disconnected, Receive

T = TypeVar("T")


async def departed(receive: Receive) -> None:
    """Wait until the client has gone away; its request has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_departed(work: Awaitable[T], receive: Receive) -> T:
    """Return what some work comes to; cancel it, and raise Disconnected, if the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(departed(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Disconnected
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
