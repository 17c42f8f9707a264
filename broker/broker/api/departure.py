"""Clients that go away while they wait for an answer."""

import asyncio
from collections.abc import Awaitable, MutableMapping
from typing import Any, TypeVar

from broker.api.publish import Disconnected, Receive

T = TypeVar("T")


async def departed(receive: Receive) -> None:
    """Wait until the client has gone away; its request has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Departure:
    """Lets several wait, one after the other, for the same client to go away.

    gunicorn is asked once: it takes a question that was cancelled for the client's departure.
    """

    def __init__(self, receive: Receive) -> None:
        self._leaving = asyncio.ensure_future(departed(receive))

    async def receive(self) -> MutableMapping[str, Any]:
        """Receive what comes behind the request."""
        await asyncio.shield(self._leaving)
        return {"type": "http.disconnect"}

    def end(self) -> None:
        """Wait no longer: the request is answered."""
        self._leaving.cancel()


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
