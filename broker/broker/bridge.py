"""From Flask's threads to the event loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from broker.history import Rates
from broker.metrics import Measures
from broker.overview import Overview, overview_of
from broker.service import Broker

T = TypeVar("T")


class LoopBridge:
    """Takes Flask's threads to the event loop."""

    def __init__(self, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        self.broker = broker
        self._loop = loop

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def ready(self) -> list[str]:
        """Return what keeps the broker from working."""
        return self.broker.ready()

    async def measures(self) -> Measures:
        """Tell of everything."""
        return await self.broker.measures()

    def overview(self) -> Overview:
        """Tell the pages of everything."""

        async def looked() -> tuple[Measures, Rates]:
            return await self.broker.measures(), self.broker.history.rates()

        return overview_of(*self.wait(looked()))
