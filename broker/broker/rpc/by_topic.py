"""Which broker a call is for, where each owns some cells of the store."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from broker.errors import BrokerError, MalformedRequest
from broker.rpc.handing_on import HandingOn, Refused
from broker.rpc.listing import Listing
from broker.rpc.parted_stream import PartedStream
from broker.rpc.port import SERVICE
from broker.rpc.refusals import refuse
from broker.rpc.topics import topic_in

log = logging.getLogger(__name__)


class ByTopic(grpc.GenericRpcHandler):
    """Serves a call here or hands it on, by the topic that its first request names.

    `handlers` are what serves calls here, by their names.
    """

    def __init__(
        self,
        is_here: Callable[[str | None], Coroutine[None, None, bool]],
        handing_on: HandingOn,
        owns: Callable[[], bool],
        listing: Listing,
    ) -> None:
        self.handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._is_here = is_here
        self._handing_on = handing_on
        self._owns = owns
        self._listing = listing

    def possible(self) -> bool:
        """Say whether calls can be served, here or elsewhere."""
        return self._owns() or self._handing_on.possible()

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return what a call meets, None for one that there is not."""
        service, _, name = details.method.removeprefix("/").partition("/")
        if service != SERVICE.full_name or name not in SERVICE.methods_by_name:
            return None
        return grpc.stream_stream_rpc_method_handler(
            partial(self._serve, SERVICE.methods_by_name[name])
        )

    async def close(self) -> None:
        """Close the connections to others."""
        await self._handing_on.close()

    async def _serve(
        self, method: MethodDescriptor, requests: AsyncIterator[bytes], context: Any
    ) -> None:
        first = await anext(requests, None)
        topic = None if first is None else topic_in(method, first)
        try:
            if method.name == "ListTopics":
                await self._list(first, context)
            elif await self._is_here(topic):
                await self._serve_here(method, first, requests, context)
            else:
                await self._handing_on.serve(method, _chained(first, requests), context)
        except BrokerError as error:
            await refuse(context, error)

    async def _list(self, first: bytes | None, context: Any) -> None:
        if first is None:
            raise MalformedRequest("The call has no request.")
        try:
            found = await self._listing.list(context)
        except Refused as refused:
            ended = refused.ended
            await context.abort(ended.code, ended.details, ended.trailer)
        else:
            await context.write(found.SerializeToString())

    async def _serve_here(
        self,
        method: MethodDescriptor,
        first: bytes | None,
        requests: AsyncIterator[bytes],
        context: Any,
    ) -> None:
        handler: Any = self.handlers[method.name]
        if method.name == "PublishStream" and first is not None:
            stream = PartedStream(handler, self._is_here, self._handing_on, context)
            await stream.run(first, requests)
            return
        decode, encode = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:

            async def decoded() -> AsyncIterator[Any]:
                async for request in _chained(first, requests):
                    yield decode(request)

            responses = handler.stream_stream(decoded(), context)
        elif first is None:
            raise MalformedRequest("The call has no request.")
        elif handler.unary_stream is not None:
            responses = handler.unary_stream(decode(first), context)
        else:
            await context.write(encode(await handler.unary_unary(decode(first), context)))
            return
        async for response in responses:
            await context.write(encode(response))


async def _chained(first: bytes | None, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first is None:
        return
    yield first
    async for request in rest:
        yield request
