"""Where gRPC is listened for, whoever serves it: this broker, or the one it is handed on to."""

import asyncio
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from broker.config import Settings
from broker.rpc.generated import broker_pb2

SERVICE = broker_pb2.DESCRIPTOR.services_by_name["Broker"]
STOP_S = 5.0
OWNER_POLL_S = 0.5
MOST_CALLS = 4000  # at once, of all clients
MOST_CALLS_OF_A_CONNECTION = 1000
# A client that is gone without a word is asked whether it is there, while it has a call; a
# connection without a call is closed after a while, and made anew at the next one.
_ASKED_EVERY_MS, _ANSWERED_WITHIN_MS, _IDLE_MS = 60_000, 20_000, 300_000
_OVERHEAD_BYTES = 1024 * 1024
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class PortTaken(Exception):
    """The port cannot be listened on."""


class Otherwise(Protocol):
    """What takes calls while none is served here, or all that are not."""

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return what a call meets."""

    def possible(self) -> bool:
        """Say whether calls can be answered."""

    async def close(self) -> None:
        """Close the connections to others."""


class RpcPort(grpc.GenericRpcHandler):
    """Takes calls in. What they meet may change from one call to the next, and the port stays."""

    def __init__(self, settings: Settings, handing_on: Otherwise | None = None) -> None:
        self._handing_on = handing_on
        self._serving: grpc.GenericRpcHandler | None = None
        self._watching: asyncio.Task[None] | None = None
        size = settings.max_batch_bytes + _OVERHEAD_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # or a second broker could share the port unnoticed
                ("grpc.max_receive_message_length", size),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", MOST_CALLS_OF_A_CONNECTION),
                ("grpc.keepalive_time_ms", _ASKED_EVERY_MS),
                ("grpc.keepalive_timeout_ms", _ANSWERED_WITHIN_MS),
                ("grpc.max_connection_idle_ms", _IDLE_MS),
            ],
            maximum_concurrent_rpcs=MOST_CALLS,
        )
        self._server.add_generic_rpc_handlers((self,))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError:
            raise PortTaken(
                f"{address} cannot be listened on. Stop what listens there, or set "
                "BROKER_GRPC_PORT to another port."
            ) from None

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return what a call meets."""
        handler = self._serving or self._handing_on
        return None if handler is None else handler.service(details)

    async def listen(self) -> None:
        """Take calls in from now on."""
        await self._tell()
        await self._server.start()
        if self._handing_on is not None:
            self._watching = asyncio.create_task(self._watch(), name="health")

    async def serve(self, handler: grpc.GenericRpcHandler | None) -> None:
        """Have calls served here from now on; None hands them on again."""
        self._serving = handler
        await self._tell()

    async def stop(self) -> None:
        """Take no more calls, and give those that are under way a moment."""
        if self._watching is not None:
            self._watching.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(STOP_S)
        if self._handing_on is not None:
            await self._handing_on.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(OWNER_POLL_S)
            await self._tell()

    async def _tell(self) -> None:
        """Say whether calls are taken: who stands by takes them while somebody owns the store."""
        handing_on = self._handing_on
        takes = self._serving is not None or (handing_on is not None and handing_on.possible())
        for name in ("", SERVICE.full_name):
            await self._health.set(name, _SERVING if takes else _NOT_SERVING)
