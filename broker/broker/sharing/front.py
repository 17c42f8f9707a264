"""Putting together a broker that shares the work with others."""

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Coroutine
from functools import cache, partial
from typing import Any, TypeVar

from a2wsgi import WSGIMiddleware

from broker import __version__
from broker.api.answers import AsgiApp, Send
from broker.api.asgi import Front
from broker.api.forwarding import Forwarding
from broker.api.publish import Receive, Scope
from broker.api.routing import POLL_S, WAIT_S, Routing
from broker.api.served import Served
from broker.api.under_way import UnderWay
from broker.api_keys import DOCUMENT
from broker.auth import Keys
from broker.bridge import LoopBridge
from broker.config import Settings
from broker.control import Bridge, asked_broker, create_app
from broker.dashboard import add_dashboard
from broker.errors import NoOwner
from broker.hosts import AllowedHosts
from broker.life import Life
from broker.metrics import Measures, together
from broker.nats_address import parse_address
from broker.overview import Overview
from broker.partition import HOME, cell_of
from broker.process import fail, keep_memory, tell_of_start
from broker.rpc.by_topic import ByTopic
from broker.rpc.generated.broker_pb2 import ListTopicsResponse
from broker.rpc.handing_on import HandingOn
from broker.rpc.listing import Listing
from broker.rpc.port import RpcPort
from broker.rpc.server import RpcServer
from broker.service import Broker
from broker.serving import Serving
from broker.sessions import Sessions
from broker.sharing.cluster import Cluster
from broker.sharing.key_follower import KeyFollower
from broker.sharing.overviews import Overviews
from broker.store.jetstream.heartbeats import Heartbeats
from broker.store.jetstream.opening import FILE
from broker.store.opening import cells_in, open_store, replica_folder
from broker.store.sqlite.peeking import document_in
from broker.tracing import Tracing, tracing_from

T = TypeVar("T")
log = logging.getLogger(__name__)

FLASK_THREADS = 10


class OwnBridge:
    """Takes Flask's threads to all that this process owns."""

    def __init__(self, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster = cluster
        self._loop = loop

    @property
    def broker(self) -> Broker:
        """Return the one at home. Raises NoOwner where another process has it."""
        home = self._cluster.served(HOME)
        if home is None:
            raise NoOwner
        return home.broker

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def ready(self) -> list[str]:
        """Return what keeps the cells that are owned here from working."""
        all_served = self._cluster.all_served().values()
        return [each for served in all_served for each in served.broker.ready()]

    def overview(self) -> Overview:
        """Tell of the cells that are owned here: no page asks for this."""
        raise NoOwner

    async def measures(self) -> Measures:
        """Tell of the cells that are owned here."""
        return together(
            {
                cell: await self._measures_of(served)
                for cell, served in self._cluster.all_served().items()
                if not served.ending.is_set()
            }
        )

    async def _measures_of(self, served: Served) -> Measures:
        served.under_way += 1  # its store stays open
        try:
            return await served.broker.measures()
        finally:
            served.under_way -= 1


class HomeBridge(LoopBridge):
    """Takes Flask's threads to the first cell, whose owner tells the pages of all cells."""

    def __init__(
        self, broker: Broker, loop: asyncio.AbstractEventLoop, overviews: Overviews
    ) -> None:
        super().__init__(broker, loop)
        self._overviews = overviews

    def overview(self) -> Overview:
        """Tell of all cells."""
        return self._overviews.together(*self.wait(self._overviews.all()))


class SharingWorker:
    """The life of a broker that owns some cells, in one worker process."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        sessions: Sessions,
        under_way: UnderWay,
        control: Callable[[Bridge], AsgiApp],
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._under_way = under_way
        self._control = control
        self._tracing: Tracing | None = None
        self._rpc: RpcServer | None = None
        self._rpc_port: RpcPort | None = None
        replica = replica_folder(settings, HOME) / FILE
        self.cluster = Cluster(
            settings.node_url,
            cells_in(settings),
            self._make,
            self._begin,
            self.fail,
            partial(Heartbeats, parse_address(settings.store)),
            keys,
            sessions,
            partial(KeyFollower, keys, partial(document_in, replica, DOCUMENT)),
        )

        self.overviews = Overviews(self.cluster)

    def _make(self, cell: int) -> Life:
        return Life(self._settings, self._keys, open_store(self._settings, fail, cell), fail)

    async def _begin(self, cell: int, life: Life) -> Served:
        broker = await life.begin(self._tracing)
        keep_memory()
        loop = asyncio.get_running_loop()
        bridge = (
            HomeBridge(broker, loop, self.overviews) if cell == HOME else LoopBridge(broker, loop)
        )
        return Served(broker=broker, control=self._control(bridge), leaves=True)

    async def start(self) -> None:
        """Stand by for every cell, and own those that nobody has."""
        gc.disable()  # what is made here stays; to look through it again and again takes long
        self._tracing = tracing_from(os.environ, __version__)
        await self.cluster.start()
        await self._open_rpc()
        keep_memory()
        tell_of_start(self._settings)

    async def _open_rpc(self) -> None:
        handing_on = HandingOn(
            lambda topic: self.cluster.rpc_owner(self._cell_of(topic)), self._under_way
        )
        listing = Listing(
            self.cluster.count, self._is_cell_here, self._list, self.cluster.rpc_owner, handing_on
        )
        by_topic = ByTopic(
            lambda topic: self._is_cell_here(self._cell_of(topic)),
            handing_on,
            lambda: bool(self.cluster.all_served()),
            listing,
        )
        port = self._rpc_port = RpcPort(self._settings, by_topic)
        self._rpc = RpcServer(self._serving, self._keys, self._settings, self._under_way, port)
        by_topic.handlers = self._rpc.handlers()
        await port.listen()

    async def _list(self, cell: int, context: Any) -> ListTopicsResponse:
        served = self.cluster.served(cell)
        if served is None or self._rpc is None:
            raise NoOwner
        return await self._rpc.list_topics(served, context)

    async def _is_cell_here(self, cell: int) -> bool:
        """Say whether a call is served here; wait while nobody owns its cell."""
        cluster = self.cluster
        until = time.monotonic() + WAIT_S
        while cluster.served(cell) is None:
            if cluster.owner(cell) is not None or time.monotonic() > until:
                return False
            await cluster.changed(POLL_S)
        return True

    def _cell_of(self, topic: str | None) -> int:
        return HOME if topic is None else cell_of(topic, self.cluster.count)

    def _serving(self, topic: str | None) -> Serving:
        all_served = self.cluster.all_served()
        if topic is None:  # the requests of a stream name it, or nothing does
            served = all_served.get(HOME) or next(iter(all_served.values()), None)
        else:
            served = all_served.get(self._cell_of(topic))
        if served is None:
            raise NoOwner
        return served

    async def standing_by(self) -> None:
        """Never end: it starts without owning anything."""
        await asyncio.Event().wait()

    def fail(self, error: Exception) -> None:
        """End the process: it cannot serve any more."""
        fail(str(error))

    async def stop(self) -> None:
        """Finish what is out, and leave each cell to another broker."""
        if self._rpc is not None:
            await self._rpc.stop()
        if self._rpc_port is not None:
            await self._rpc_port.stop()
        await self.cluster.stop()
        await self.overviews.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)
        log.info("The broker has stopped.", extra={"action": "stopped"})


def sharing_front(
    settings: Settings, keys: Keys, sessions: Sessions, under_way: UnderWay, hosts: AllowedHosts
) -> Front:
    """Build the ASGI application."""

    @cache
    def app() -> AsgiApp:
        control = create_app(None, keys)
        add_dashboard(control, sessions)
        return WSGIMiddleware(control, workers=FLASK_THREADS)  # type: ignore[arg-type, return-value]

    def bound(to: Bridge) -> AsgiApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            asked_broker.set(to)
            await app()(scope, receive, send)

        return serve

    worker = SharingWorker(settings, keys, sessions, under_way, bound)
    cluster = worker.cluster
    forwarding = Forwarding(lambda: cluster.owner(HOME), settings.max_batch_bytes)

    @cache
    def own() -> AsgiApp:
        return bound(OwnBridge(cluster, asyncio.get_running_loop()))

    routing = Routing(cluster, own, forwarding, worker.overviews.told)

    def unparted(_: Broker) -> AsgiApp:
        raise AssertionError("it serves by the cell")

    return Front(worker, unparted, keys, sessions, under_way, forwarding, routing, hosts)
