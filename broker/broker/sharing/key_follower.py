"""The keys that another broker makes and revokes, as this broker's copy has heard of them."""

import asyncio
from collections.abc import Callable
from typing import Any

from broker.auth import Keys, from_document

FOLLOW_S = 0.3


class KeyFollower:
    """Has the door honour what a document says, while this broker is not the one that writes it."""

    def __init__(
        self, keys: Keys, read: Callable[[], dict[str, Any] | None], writes: Callable[[], bool]
    ) -> None:
        self._keys = keys
        self._read = read
        self._writes = writes
        self._known: dict[str, Any] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.follow()
            await asyncio.sleep(FOLLOW_S)

    async def follow(self) -> None:
        """Look once."""
        if self._writes():
            self._known = None
            return
        found = await asyncio.to_thread(self._read)
        if found is not None and found != self._known and not self._writes():
            self._keys.use(from_document(found))
            self._known = found
