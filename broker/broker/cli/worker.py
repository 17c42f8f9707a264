"""gunicorn's ASGI worker, stopping in the broker's order."""

import asyncio
import signal
from typing import Any

from gunicorn.workers.gasgi import ASGIWorker

from broker.cli import protocol

# How long a stop waits for connections that have a request under way. What is left of the graceful
# time-out is for deliveries that are out.
CONNECTIONS_S = 5
# For so long the others may still send one, whose answer is a farewell as well. Longer than the
# client library and other brokers keep a connection that they do not use.
AT_REST_S = 3.0
BEAT_S = 1.0


class Worker(ASGIWorker):  # type: ignore[misc]
    """Keeps silent connections from using up the time that a stop may take.

    It also ends on a signal that comes while it starts: uvloop forgets those that it got handlers
    for before it ran.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.connections: set[protocol.Protocol] = set()

    def init_signals(self) -> None:
        """Let signals do what they do by themselves, until the loop runs."""
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    async def _serve(self) -> None:
        protocol.install()
        super().init_signals()
        beating = asyncio.create_task(self._beat(), name="beat")
        await super()._serve()
        beating.cancel()

    async def _beat(self) -> None:
        """Show gunicorn signs of life while the store opens, which a large one takes long for."""
        while not self.servers:
            self.notify()
            await asyncio.sleep(BEAT_S)

    async def _shutdown(self) -> None:
        self.asgi.end()
        for connection in self.connections:
            connection.expire_if_at_rest(AT_REST_S)
        self.cfg.set("graceful_timeout", CONNECTIONS_S)
        await super()._shutdown()
