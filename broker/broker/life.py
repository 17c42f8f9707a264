"""What works while this process owns a store: from its opening until it has been let go."""

import asyncio
import logging
from collections.abc import Callable

from broker.auth import Keys
from broker.config import Settings
from broker.consent import origin_of
from broker.dispatch.couriers import Couriers
from broker.dispatch.dispatcher import Dispatcher
from broker.dispatch.sweeper import Sweeper
from broker.dispatch.traced import TracedCouriers
from broker.service import Broker
from broker.store.opening import cells_in
from broker.store.port import Store
from broker.tls import tls_of
from broker.tracing import Tracing

log = logging.getLogger(__name__)


class Life:
    """One ownership of one store. Once it has ended, another one, on a new store, may follow."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        store: Store,
        failed: Callable[[str], None],
    ) -> None:
        self.store = store
        self._settings = settings
        self._keys = keys
        self._failed = failed
        self._dispatcher: Dispatcher | None = None
        self._sweeper: Sweeper | None = None
        self._drained = False
        self._keepers: list[asyncio.Task[None]] = []

    async def begin(self, tracing: Tracing | None) -> Broker:
        """Take over what the opened store holds, and begin to deliver."""
        settings, store = self._settings, self.store
        broker = Broker(store, settings, self._keys, tracing=tracing)
        await broker.load()
        inherited = store.lock_descriptor()
        tls = tls_of(settings.ca_file, settings.client_cert_file, settings.client_key_file)
        targets = settings.allowed_targets
        count = max(settings.couriers // cells_in(settings), 1)  # each cell has its own
        couriers = (
            Couriers(targets, tls, inherited, store.may_send_until, count)
            if tracing is None
            else TracedCouriers(targets, tls, inherited, tracing, store.may_send_until, count)
        )
        self._dispatcher = Dispatcher(
            store,
            couriers,
            broker.subscriptions,
            self._failed,
            broker.pause_gone,
            broker.keep_agreement,
            settings.public_url,
            origin_of(settings.public_url),
        )
        broker.use(self._dispatcher)
        await self._dispatcher.start()
        self._sweeper = Sweeper(
            store, broker.topics, broker.subscriptions, self._dispatcher, self._failed
        )
        self._sweeper.start()
        self._keepers = [
            asyncio.create_task(broker.keys.keep_use(), name="keep use of keys"),
            asyncio.create_task(broker.history.keep(), name="keep history"),
        ]
        return broker

    async def drain(self) -> None:
        """Begin no delivery any more, and finish what is out. Requests are served as before."""
        if self._dispatcher is not None and not self._drained:
            self._drained = True
            await self._dispatcher.drain(self._settings.drain_s)

    async def end_deliveries(self) -> None:
        """End what delivers, once drained. The store takes writes as before."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        if self._sweeper is not None:
            await self._sweeper.stop()
        if self._dispatcher is not None:
            await self.drain()
            await self._dispatcher.stop()

    async def let_go(self, follower: str | None = None) -> None:
        """Write what is pending, and leave the store; to `follower`, a broker's URL, if given."""
        await self.store.close(follower)
