"""A subject on which the brokers of a store hear of one another. Nothing of it is kept."""

import asyncio
import contextlib
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from broker.nats_address import Address
from broker.store.jetstream.connection import CLOSE_S, RETRY_PAUSE_S, TRANSIENT, connect


class Heartbeats:
    """Says and hears; what cannot be said at the moment is not said."""

    def __init__(self, address: Address, hear: Callable[[bytes], None]) -> None:
        self._address = address
        self._hear = hear
        self._nats: Client | None = None

    async def open(self) -> None:
        """Connect. Tries until it succeeds."""

        async def heard(message: Msg) -> None:
            self._hear(message.data)

        while self._nats is None:
            try:
                client = await connect(self._address, "broker heartbeats", _ignore)
                await client.subscribe(self._address.heartbeats, cb=heard)
                self._nats = client
            except TRANSIENT:
                await asyncio.sleep(RETRY_PAUSE_S)

    async def say(self, said: bytes) -> None:
        """Tell everybody who listens."""
        if self._nats is not None and self._nats.is_connected:
            with contextlib.suppress(*TRANSIENT):
                await self._nats.publish(self._address.heartbeats, said)
                # In a task: its own time-out loses cancellations before Python 3.12.
                flushing = asyncio.ensure_future(self._nats.flush(round(CLOSE_S)))
                await asyncio.wait((flushing,))
                flushing.result()

    async def close(self) -> None:
        """Disconnect."""
        if self._nats is not None:
            with contextlib.suppress(*TRANSIENT):
                await asyncio.wait_for(self._nats.close(), CLOSE_S)


async def _ignore(_: Exception) -> None:
    """The journals' connections tell what is wrong with the servers."""
