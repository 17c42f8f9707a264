"""The gRPC server: who may call what, refusals, health, reflection."""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from broker.api.under_way import UnderWay
from broker.auth import Caller, Keys
from broker.config import Settings
from broker.errors import BrokerError
from broker.logs import asked
from broker.rpc.calls import NEEDS, Calls
from broker.rpc.generated import broker_pb2
from broker.rpc.patience import Patience
from broker.rpc.refusals import refuse
from broker.service import Broker

log = logging.getLogger(__name__)

SERVICE = broker_pb2.DESCRIPTOR.services_by_name["Broker"]
STOP_S = 5.0
MOST_CALLS = 4000  # at once, of all clients
MOST_CALLS_OF_A_CONNECTION = 1000
# A client that is gone without a word is asked whether it is there, while it has a call; a
# connection without a call is closed after a while, and made anew at the next one.
_ASKED_EVERY_MS, _ANSWERED_WITHIN_MS, _IDLE_MS = 60_000, 20_000, 300_000
_OVERHEAD_BYTES = 1024 * 1024


class PortTaken(Exception):
    """The port cannot be listened on."""


class RpcServer:
    """Serves the broker's calls on a port of their own, on the worker's event loop."""

    def __init__(self, broker: Broker, keys: Keys, settings: Settings, under_way: UnderWay) -> None:
        self._broker = broker
        self._keys = keys
        prefix = secrets.token_hex(6)
        self._ids = (f"{prefix}-{n}".encode() for n in itertools.count(1))
        self._ended = asyncio.Event()
        self._calls = Calls(broker, self._ended, under_way)
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
        self._server.add_generic_rpc_handlers((self._handler(),))
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

    async def start(self) -> None:
        """Begin to serve."""
        await self._server.start()
        for name in ("", SERVICE.full_name):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Take no more calls, and give those that are under way a moment."""
        self._ended.set()  # those who wait for messages are to go
        await self._health.enter_graceful_shutdown()
        await self._server.stop(STOP_S)

    def _handler(self) -> grpc.GenericRpcHandler:
        handlers = {method.name: self._handler_of(method) for method in SERVICE.methods}
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    def _handler_of(self, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        call = getattr(self._calls, _snake_case(method.name))
        coders: dict[str, Any] = {
            "request_deserializer": GetMessageClass(method.input_type).FromString,
            "response_serializer": GetMessageClass(method.output_type).SerializeToString,
        }
        if method.client_streaming:
            streaming = self._streaming(method.name, call)
            return grpc.stream_stream_rpc_method_handler(streaming, **coders)
        if method.server_streaming:
            streaming = self._streaming(method.name, call)
            return grpc.unary_stream_rpc_method_handler(streaming, **coders)
        return grpc.unary_unary_rpc_method_handler(self._unary(method.name, call), **coders)

    def _unary(
        self, name: str, call: Callable[[Any, Caller], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def serve(request: Any, context: Any) -> Any:
            asked.set(next(self._ids))
            try:
                return await call(request, self._admit(name, request, context))
            except BrokerError as error:
                if name == "Publish":
                    self._broker.refused[error.code] += 1
                await refuse(context, error)
            except Exception:
                log.exception("A call failed.", extra={"action": "call_failed"})
                await refuse(context, _failed())

        return serve

    def _streaming(
        self, name: str, call: Callable[[Any, Caller], AsyncGenerator[Any, None]]
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def serve(requests: Any, context: Any) -> AsyncIterator[Any]:
            asked.set(next(self._ids))
            try:
                caller = self._admit(name, requests, context)
                patience = Patience(context)
                with self._broker.streams.place():
                    async with aclosing(call(requests, caller)) as responses:
                        async for response in responses:
                            with patience.waiting():
                                yield response
            except BrokerError as error:
                await refuse(context, error)
            except Exception:
                log.exception("A call failed.", extra={"action": "call_failed"})
                await refuse(context, _failed())

        return serve

    def _admit(self, name: str, request: Any, context: Any) -> Caller:
        headers = [
            (key.encode(), value.encode() if isinstance(value, str) else value)
            for key, value in context.invocation_metadata() or ()
        ]
        caller = self._keys.caller(headers, time.time())
        caller.require(NEEDS[name], getattr(request, "topic", None))
        return caller


def _failed() -> BrokerError:
    return BrokerError("Something went wrong here; the broker's log says what.")


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
