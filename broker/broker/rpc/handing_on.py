"""What calls a broker that stands by is handed on to the one that owns the store."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor

from broker.api.under_way import UnderWay
from broker.errors import BrokerError, NoOwner, OutcomeUnknown
from broker.rpc.lines import Lines
from broker.rpc.patience import Patience
from broker.rpc.port import OWNER_POLL_S, SERVICE
from broker.rpc.refusals import DETAILS, refuse
from broker.rpc.topics import topic_in

log = logging.getLogger(__name__)

# Where the broker is that owns a topic, or what belongs to none: a host and the port of its gRPC.
OwnerOf: TypeAlias = Callable[[str | None], str | None]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

# Where two brokers take each other for the owner, a call goes no further than from one to the
# other.
HANDED_ON = "broker-handed-on"
_OF_ONE_CONNECTION = frozenset(("user-agent", "content-type", "te"))
_OF_ONE_CALL = ("grpc-internal-", "grpc-accept-", "grpc-encoding", "grpc-timeout")
_READING = ("Get", "List", "Watch")


class Ended(NamedTuple):
    """How the owner has ended a call."""

    code: grpc.StatusCode
    details: str
    trailer: Metadata


class HandingOn(grpc.GenericRpcHandler):
    """Hands calls on, and what is answered back, message by message, unread.

    Every call is handed on as one with a stream in both directions: they do not differ on the wire.
    """

    def __init__(self, owner_of: OwnerOf, under_way: UnderWay) -> None:
        self._owner_of = owner_of
        self._under_way = under_way
        self._lines = Lines()

    def possible(self) -> bool:
        """Say whether there is somebody to hand calls on to."""
        return self._owner_of(None) is not None

    def calls(self) -> int:
        """Count the calls that are handed on now."""
        return self._lines.calls()

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return what hands a call on, None for one that there is not."""
        service, _, name = details.method.removeprefix("/").partition("/")
        if service != SERVICE.full_name or name not in SERVICE.methods_by_name:
            return None
        return grpc.stream_stream_rpc_method_handler(
            partial(self.serve, SERVICE.methods_by_name[name])
        )

    async def close(self) -> None:
        """Close the connections to others."""
        await self._lines.close()

    async def serve(
        self, method: MethodDescriptor, requests: AsyncIterator[bytes], context: Any
    ) -> None:
        """Hand one call on, and its answer back."""
        try:
            ended = await self._hand_on(method, requests, context)
        except BrokerError as error:
            await refuse(context, error)
        except Exception:
            log.exception("A call failed.", extra={"action": "call_failed"})
            await refuse(
                context, BrokerError("Something went wrong here; the broker's log says what.")
            )
        else:
            if ended.code is grpc.StatusCode.OK:
                context.set_trailing_metadata(ended.trailer)
            else:
                await context.abort(ended.code, ended.details, ended.trailer)

    async def _hand_on(
        self, method: MethodDescriptor, requests: AsyncIterator[bytes], context: Any
    ) -> Ended:
        """Hand one call on, and say how it has ended. Raises NoOwner, OutcomeUnknown, Overloaded.

        An owner that is frozen, or out of reach, closes no connection: once another has its place,
        nothing comes any more.
        """
        metadata = _handed_on(context.invocation_metadata() or ())
        first = await anext(requests, None)
        topic = None if first is None else topic_in(method, first)
        owner = self._owner_of(topic)
        if owner is None:
            raise NoOwner
        async with self._lines.to(owner) as channel:
            path = f"/{SERVICE.full_name}/{method.name}"
            call: Any = channel.stream_stream(path)(
                metadata=metadata, timeout=context.time_remaining()
            )
            answering = asyncio.ensure_future(_hand_back(call, context))
            asking = asyncio.ensure_future(self._ask(first, requests, call))
            following = asyncio.ensure_future(self._followed(topic, owner))
            tasks: set[asyncio.Future[Any]] = {answering, asking, following}
            try:
                waiting = tasks
                while not answering.done():
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    if asking in done:
                        asking.result()
                    if following in done and not answering.done():
                        raise _unanswered(method)
                ended = answering.result()
            finally:
                call.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if _broke_off(ended):
            raise _unanswered(method)
        return ended

    async def _ask(self, first: bytes | None, requests: AsyncIterator[bytes], call: Any) -> None:
        """Hand requests on until there are no more. Raises Overloaded."""
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):  # the call has ended
            request = first
            while request is not None:
                with self._under_way.holding(len(request)):
                    await call.write(request)
                request = await anext(requests, None)
            await call.done_writing()

    async def _followed(self, topic: str | None, owner: str) -> None:
        """End once a broker owns the topic no longer."""
        while True:
            await asyncio.sleep(OWNER_POLL_S)
            if self._owner_of(topic) != owner:
                return


async def _hand_back(call: Any, context: Any) -> Ended:
    patience = Patience(context)
    try:
        while (answer := await call.read()) is not grpc.aio.EOF:
            with patience.waiting():
                await context.write(answer)
        return Ended(grpc.StatusCode.OK, "", tuple(await call.trailing_metadata() or ()))
    except grpc.aio.AioRpcError as error:
        trailer = tuple(error.trailing_metadata() or ())
        return Ended(error.code(), error.details() or "", trailer)


def _handed_on(given: Metadata) -> Metadata:
    """Return what goes on of a call's metadata. Raises NoOwner where it has been handed on."""
    if any(key == HANDED_ON for key, _ in given):
        raise NoOwner
    kept = [
        (key, value)
        for key, value in given
        if key not in _OF_ONE_CONNECTION and not key.startswith(_OF_ONE_CALL)
    ]
    return (*kept, (HANDED_ON, "1"))


def _broke_off(ended: Ended) -> bool:
    """Say whether it was the connection that ended a call: the owner says why it refuses one."""
    refused = any(key == DETAILS for key, _ in ended.trailer)
    return ended.code is grpc.StatusCode.UNAVAILABLE and not refused


def _unanswered(method: MethodDescriptor) -> BrokerError:
    return NoOwner() if method.name.startswith(_READING) else OutcomeUnknown()
