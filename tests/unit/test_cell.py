"""A cell that is handed over to another broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.api.served import Served
from broker.sharing.cell import Cell

pytestmark = pytest.mark.anyio


class Life:
    """Notes what it is told, and has a request under way while it is drained."""

    def __init__(self, told: list[str], served: Served) -> None:
        self.store = self
        self._told = told
        self._served = served

    async def open(self) -> None:
        """Own it; only the first ever does."""
        if self._told:
            await asyncio.Event().wait()

    async def drain(self) -> None:
        """Take a request."""
        self._told.append("drained")
        self._served.under_way += 1
        asyncio.get_running_loop().call_later(0.05, self._answer)

    def _answer(self) -> None:
        self._told.append("answered")
        self._served.under_way -= 1

    async def end_deliveries(self) -> None:
        """End what acks are told to."""
        self._told.append("ended")

    async def let_go(self, follower: str | None) -> None:
        """Leave it."""
        self._told.append(f"left to {follower}")


async def test_what_is_under_way_is_answered_before_anything_ends() -> None:
    told: list[str] = []
    nothing: Any = None
    served = Served(broker=nothing, control=nothing, leaves=True)
    changed = asyncio.Event()

    def make() -> Any:
        return Life(told, served)

    async def begin(_: Any) -> Served:
        return served

    cell = Cell(1, make, begin, changed.set)
    cell.start(lambda error: pytest.fail(str(error)))
    await changed.wait()
    cell.leave("http://b")
    await cell.stop(None)

    assert told == ["drained", "answered", "ended", "left to http://b"]
    assert cell.served is None
    assert served.ending.is_set()
