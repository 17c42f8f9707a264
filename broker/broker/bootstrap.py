"""Putting the parts together: the only place that knows which they are."""

import asyncio
import gc
import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from a2wsgi import WSGIMiddleware

from broker import __version__
from broker.api.answers import AsgiApp
from broker.api.asgi import Front
from broker.api.under_way import UnderWay, most_bytes
from broker.auth import Keys
from broker.bridge import LoopBridge
from broker.config import Settings, settings_from
from broker.control import create_app
from broker.dashboard import add_dashboard
from broker.hosts import EVERY_HOST, AllowedHosts
from broker.life import Life
from broker.nats_address import SCHEME
from broker.process import fail, keep_memory, tell_of_start
from broker.service import Broker
from broker.serving import Serving
from broker.sessions import Sessions
from broker.store.opening import cells_in, open_store
from broker.tracing import Tracing, tracing_from

if TYPE_CHECKING:
    from broker.api.forwarding import Forwarding
    from broker.rpc.port import RpcPort
    from broker.rpc.server import RpcServer

log = logging.getLogger(__name__)

FLASK_THREADS = 10


class Worker:
    """The life of the broker in one worker process."""

    def __init__(self, settings: Settings, keys: Keys, under_way: UnderWay) -> None:
        self._settings = settings
        self._keys = keys
        self._under_way = under_way
        self._rpc: RpcServer | None = None
        self._rpc_port: RpcPort | None = None
        self._life = Life(settings, keys, open_store(settings, fail), fail)
        self._tracing: Tracing | None = None

    async def start(self) -> Broker:
        """Open the store, take over what it holds, begin to deliver."""
        gc.disable()  # what is made here stays; to look through it again and again takes long
        settings = self._settings
        if settings.store.startswith(SCHEME):
            await self._open_rpc_port()
        await self._life.store.open()
        gc.disable()  # it may have stood by
        self._tracing = tracing_from(os.environ, __version__)
        broker = await self._life.begin(self._tracing)
        serving = Serving(broker=broker)
        # Only now, in the worker: it does not survive a fork.
        from broker.rpc.server import RpcServer

        self._rpc = RpcServer(
            lambda _: serving, self._keys, settings, self._under_way, self._rpc_port
        )
        await self._rpc.start()
        keep_memory()
        tell_of_start(settings)
        return broker

    async def _open_rpc_port(self) -> None:
        """Hand calls on as long as another broker owns the store."""
        from broker.rpc.handing_on import HandingOn
        from broker.rpc.port import RpcPort

        handing_on = HandingOn(lambda _: self._life.store.rpc_owner(), self._under_way)
        self._rpc_port = RpcPort(self._settings, handing_on)
        await self._rpc_port.listen()

    async def standing_by(self) -> None:
        """End when another broker owns the store, and this one has to wait."""
        await self._life.store.standing_by()
        gc.enable()  # what is handed on meanwhile does not stay, and the wait may last for months

    def owner(self) -> str | None:
        """Return the URL of the broker that owns the store instead, None where it is not known."""
        return self._life.store.owner()

    def fail(self, error: Exception) -> None:
        """End the process: it cannot serve any more."""
        fail(str(error))

    async def stop(self) -> None:
        """Finish what is out, then close the store."""
        if self._rpc is not None:
            await self._rpc.stop()
        if self._rpc_port is not None:
            await self._rpc_port.stop()
        await self._life.end_deliveries()
        await self._life.let_go()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)
        log.info("The broker has stopped.", extra={"action": "stopped"})


def create_front(settings: Settings) -> Front:
    """Build the ASGI application."""
    keys = Keys(settings.admin_key, on=settings.api_keys)
    sessions = Sessions(keys)

    if not settings.api_keys:
        log.warning(
            "API keys are off: whoever reaches this port may do everything. "
            "Set BROKER_API_KEYS=on and BROKER_ADMIN_KEY to change that.",
            extra={"action": "keys_off"},
        )
    elif not settings.encryption_keys:
        log.warning(
            "The secrets that sign webhooks are stored as they are. "
            "Set BROKER_ENCRYPTION_KEY to change that.",
            extra={"action": "not_encrypted"},
        )
    under_way = UnderWay(most_bytes(settings.max_batch_bytes))
    hosts = _hosts_of(settings)
    if cells_in(settings) > 1:
        # Only here: what it imports takes memory of which a broker alone has no use.
        from broker.sharing.front import sharing_front

        return sharing_front(settings, keys, sessions, under_way, hosts)

    def control(broker: Broker) -> AsgiApp:
        app = create_app(LoopBridge(broker, asyncio.get_running_loop()), keys)
        add_dashboard(app, sessions)
        return WSGIMiddleware(app, workers=FLASK_THREADS)  # type: ignore[arg-type, return-value]

    worker = Worker(settings, keys, under_way)
    forwarding = _forwarding_of(settings, worker)
    return Front(worker, control, keys, sessions, under_way, forwarding, hosts=hosts)


def _forwarding_of(settings: Settings, worker: Worker) -> "Forwarding | None":
    if not settings.store.startswith(SCHEME):
        return None
    # Only here: what it imports takes memory of which a broker alone has no use.
    from broker.api.forwarding import Forwarding

    return Forwarding(worker.owner, settings.max_batch_bytes)


def _hosts_of(settings: Settings) -> AllowedHosts:
    """Say under which names browsers are served: a page that has no key gets nothing anyway."""
    if settings.allowed_hosts is None and settings.api_keys:
        return EVERY_HOST
    url = settings.public_url
    own = None if url is None else urlsplit(url).hostname
    return (settings.allowed_hosts or AllowedHosts()).also(own)


def asgi_app() -> Front:
    """Build the application from the process's environment; gunicorn calls this in the worker."""
    return create_front(settings_from(os.environ))
