"""The calls as they are served: who may call what, and refusals."""

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

from broker.api.under_way import UnderWay
from broker.auth import Caller, Keys
from broker.config import Settings
from broker.errors import BrokerError
from broker.logs import asked
from broker.rpc.calls import NEEDS, Calls
from broker.rpc.patience import Patience
from broker.rpc.port import SERVICE, RpcPort
from broker.rpc.refusals import refuse
from broker.service import Broker

log = logging.getLogger(__name__)


class RpcServer:
    """Serves the broker's calls on a port of their own, on the worker's event loop.

    A port that is given is listened on already, by somebody who closes it as well.
    """

    def __init__(
        self,
        broker: Broker,
        keys: Keys,
        settings: Settings,
        under_way: UnderWay,
        port: RpcPort | None = None,
    ) -> None:
        self._broker = broker
        self._keys = keys
        prefix = secrets.token_hex(6)
        self._ids = (f"{prefix}-{n}".encode() for n in itertools.count(1))
        self._ended = asyncio.Event()
        self._calls = Calls(broker, self._ended, under_way)
        self._port = RpcPort(settings) if port is None else port
        self._own_port = port is None

    async def start(self) -> None:
        """Begin to serve."""
        await self._port.serve(self._handler())
        if self._own_port:
            await self._port.listen()

    async def stop(self) -> None:
        """Take no more calls, and give those that are under way a moment."""
        self._ended.set()  # those who wait for messages are to go
        if self._own_port:
            await self._port.stop()
        else:
            await self._port.serve(None)

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
