"""The calls as they are served: who may call what, and refusals."""

import asyncio
import contextlib
import itertools
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass

from broker.api.under_way import UnderWay
from broker.auth import Caller, Keys
from broker.config import Settings
from broker.errors import BrokerError, NoOwner
from broker.logs import asked
from broker.rpc.calls import NEEDS, Calls
from broker.rpc.generated import broker_pb2 as pb
from broker.rpc.patience import Patience
from broker.rpc.port import SERVICE, RpcPort
from broker.rpc.refusals import refuse
from broker.rpc.until import until
from broker.serving import Serving

log = logging.getLogger(__name__)


class RpcServer:
    """Serves the broker's calls on a port of their own, on the worker's event loop.

    A port that is given is listened on already, by somebody who closes it as well.
    """

    def __init__(
        self,
        serving_of: Callable[[str | None], Serving],
        keys: Keys,
        settings: Settings,
        under_way: UnderWay,
        port: RpcPort | None = None,
    ) -> None:
        self._serving_of = serving_of
        self._under_way = under_way
        self._keys = keys
        prefix = secrets.token_hex(6)
        self._ids = (f"{prefix}-{n}".encode() for n in itertools.count(1))
        self._ended = asyncio.Event()
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

    def handlers(self) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Return what serves each call, by its name."""
        return {method.name: self._handler_of(method) for method in SERVICE.methods}

    async def list_topics(self, serving: Serving, context: Any) -> pb.ListTopicsResponse:
        """List the topics of one of several brokers of this process. Raises a BrokerError."""
        caller = self._admit("ListTopics", Empty(), context)
        return await self._calls_by(serving).list_topics(Empty(), caller)

    def _handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(SERVICE.full_name, self.handlers())

    def _handler_of(self, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        call = _snake_case(method.name)
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

    def _calls_of(self, topic: str | None) -> Calls:
        """Return the calls of the broker that has a topic, or what has none. Raises NoOwner."""
        return self._calls_by(self._serving_of(topic))

    def _calls_by(self, serving: Serving) -> Calls:
        # Made for each call: what is kept would keep a broker that has left its cell.
        ended = serving.ending if serving.leaves else self._ended
        return Calls(serving.broker, ended, self._under_way, self._calls_of, leaves=serving.leaves)

    def _unary(self, name: str, call: str) -> Callable[[Any, Any], Awaitable[Any]]:
        async def serve(request: Any, context: Any) -> Any:
            asked.set(next(self._ids))
            try:
                caller = self._admit(name, request, context)
                serving = self._serving_of(getattr(request, "topic", None))
                serving.under_way += 1
                try:
                    return await getattr(self._calls_by(serving), call)(request, caller)
                finally:
                    serving.under_way -= 1
            except BrokerError as error:
                if name == "Publish":
                    self._count_refused(request.topic, error)
                await refuse(context, error)
            except Exception:
                log.exception("A call failed.", extra={"action": "call_failed"})
                await refuse(context, _failed())

        return serve

    def _count_refused(self, topic: str, error: BrokerError) -> None:
        with contextlib.suppress(NoOwner):
            self._serving_of(topic).broker.refused[error.code] += 1

    def _streaming(self, name: str, call: str) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def serve(requests: Any, context: Any) -> AsyncIterator[Any]:
            asked.set(next(self._ids))
            try:
                caller = self._admit(name, requests, context)
                patience = Patience(context)
                serving = self._serving_of(getattr(requests, "topic", None))
                calls = getattr(self._calls_by(serving), call)
                with serving.broker.streams.place():
                    served = calls(requests, caller)
                    if serving.leaves:
                        served = until(served, serving.ending)
                    async with aclosing(served) as responses:
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
