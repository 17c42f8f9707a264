"""What calls a broker that stands by is handed on to the one that owns the store."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor

from broker.api.under_way import UnderWay
from broker.errors import BrokerError, NoOwner, OutcomeUnknown
from broker.rpc.lines import Lines
from broker.rpc.patience import Patience
from broker.rpc.port import OWNER_POLL_S, SERVICE
from broker.rpc.refusals import DETAILS, refusal_in, refuse
from broker.rpc.topics import topic_in

log = logging.getLogger(__name__)

# Where the broker is that owns a topic, or what belongs to none: a host and the port of its gRPC.
OwnerOf: TypeAlias = Callable[[str | None], str | None]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

# Where two brokers take each other for the owner, a call goes no further than from one to the
# other.
HANDED_ON = "broker-handed-on"
_OF_ONE_CONNECTION = frozenset(("user-agent", "content-type", "te", HANDED_ON))
_OF_ONE_CALL = ("grpc-internal-", "grpc-accept-", "grpc-encoding", "grpc-timeout")
_READING = ("Get", "List", "Watch")


class Ended(NamedTuple):
    """How the owner has ended a call."""

    code: grpc.StatusCode
    details: str
    trailer: Metadata


class Refused(Exception):
    """The owner has refused a call, or it has failed there."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.details)
        self.ended = ended


class HandingOn(grpc.GenericRpcHandler):
    """Hands calls on, and what is answered back, message by message, unread.

    Every call is handed on as one with a stream in both directions: they do not differ on the wire.
    """

    def __init__(self, owner_of: OwnerOf, under_way: UnderWay) -> None:
        self.owner_of = owner_of
        self._under_way = under_way
        self._lines = Lines()

    def possible(self) -> bool:
        """Say whether there is somebody to hand calls on to."""
        return self.owner_of(None) is not None

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
        """Hand one call on, and say how it has ended. Raises what `_exchange` does."""
        given = context.invocation_metadata() or ()
        if any(key == HANDED_ON for key, _ in given):
            raise NoOwner
        first = await anext(requests, None)
        topic = None if first is None else topic_in(method, first)
        return await self._exchange(
            method,
            partial(self.owner_of, topic),
            first,
            requests,
            handed_on(given),
            context.time_remaining(),
            partial(_hand_back, context),
        )

    async def ask(
        self,
        method: MethodDescriptor,
        owner_now: Callable[[], str | None],
        request: bytes,
        metadata: Metadata,
        timeout_s: float | None,
    ) -> bytes:
        """Have an owner answer one request with one response.

        Raises Refused, NoOwner, OutcomeUnknown, Overloaded.
        """
        answers: list[bytes] = []
        ended = await self._exchange(
            method, owner_now, request, _nothing(), metadata, timeout_s, partial(_keep, answers)
        )
        if ended.code is grpc.StatusCode.OK and answers:
            return answers[0]
        if refusal_in(ended.details, ended.code, ended.trailer).code == NoOwner.code:
            raise NoOwner
        raise Refused(ended)

    async def _exchange(
        self,
        method: MethodDescriptor,
        owner_now: Callable[[], str | None],
        first: bytes | None,
        requests: AsyncIterator[bytes],
        metadata: Metadata,
        timeout_s: float | None,
        hand_back: Callable[[Any], Coroutine[Any, Any, Ended]],
    ) -> Ended:
        """Make a call to an owner, and say how it has ended.

        Raises NoOwner, OutcomeUnknown, Overloaded. An owner that is frozen, or out of reach, closes
        no connection: once another has its place, nothing comes any more.
        """
        owner = owner_now()
        if owner is None:
            raise NoOwner
        async with self._lines.to(owner) as channel:
            path = f"/{SERVICE.full_name}/{method.name}"
            call: Any = channel.stream_stream(path)(metadata=metadata, timeout=timeout_s)
            answering = asyncio.ensure_future(hand_back(call))
            asking = asyncio.ensure_future(self._ask(first, requests, call))
            following = asyncio.ensure_future(_followed(owner, owner_now))
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


async def _followed(owner: str, owner_now: Callable[[], str | None]) -> None:
    """End once a broker owns what a call is about no longer."""
    while True:
        await asyncio.sleep(OWNER_POLL_S)
        if owner_now() != owner:
            return


async def _nothing() -> AsyncIterator[bytes]:
    requests: tuple[bytes, ...] = ()
    for request in requests:
        yield request


async def _hand_back(context: Any, call: Any) -> Ended:
    patience = Patience(context)

    async def write(answer: bytes) -> None:
        with patience.waiting():
            await context.write(answer)

    return await _read(call, write)


async def _keep(answers: list[bytes], call: Any) -> Ended:
    async def write(answer: bytes) -> None:
        answers.append(answer)

    return await _read(call, write)


async def _read(call: Any, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> Ended:
    try:
        while (answer := await call.read()) is not grpc.aio.EOF:
            await write(answer)
        return Ended(grpc.StatusCode.OK, "", tuple(await call.trailing_metadata() or ()))
    except grpc.aio.AioRpcError as error:
        trailer = tuple(error.trailing_metadata() or ())
        return Ended(error.code(), error.details() or "", trailer)


def handed_on(given: Metadata) -> Metadata:
    """Return what goes on of a call's metadata."""
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
