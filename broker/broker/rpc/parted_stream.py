"""A `PublishStream` whose topics belong to several brokers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

from broker.errors import BrokerError, MalformedRequest
from broker.rpc.calls import STREAM_WINDOW
from broker.rpc.generated import broker_pb2 as pb
from broker.rpc.handing_on import HandingOn, Refused, handed_on
from broker.rpc.patience import Patience
from broker.rpc.port import SERVICE
from broker.rpc.refusals import refusal_in, refusal_of
from broker.rpc.topics import topic_in

_STREAM = SERVICE.methods_by_name["PublishStream"]
_CALL = SERVICE.methods_by_name["Publish"]


class PartedStream:
    """Serves a stream here but for the requests whose topics another broker has.

    Those are handed on as calls of `Publish`, one after the other of each topic, as calls do not
    keep an order. The answers come in the order of the requests.
    """

    def __init__(
        self,
        handler: Any,
        is_here: Callable[[str | None], Coroutine[Any, Any, bool]],
        handing_on: HandingOn,
        context: Any,
    ) -> None:
        self._handler = handler
        self._is_here = is_here
        self._handing_on = handing_on
        self._owner_of = handing_on.owner_of
        self._context = context
        self._metadata = handed_on(context.invocation_metadata() or ())
        self._here: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting: asyncio.Queue[asyncio.Future[bytes] | None] = asyncio.Queue()
        self._answered_here: asyncio.Queue[asyncio.Future[bytes]] = asyncio.Queue()
        self._elsewhere: dict[
            str, asyncio.Task[bytes]
        ] = {}  # the last of each topic, until it ends
        self._handed_on: set[asyncio.Task[bytes]] = set()
        self._all_read = False
        self._room = asyncio.Semaphore(STREAM_WINDOW)

    async def run(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        """Serve the stream, whose first request is for a topic of this broker's."""
        tasks = [
            asyncio.create_task(self._take_in(first, rest), name="publish stream, taken in"),
            asyncio.create_task(self._serve_here(), name="publish stream, served here"),
            asyncio.create_task(self._answer(), name="publish stream, answered"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            every = [*tasks, *self._handed_on]
            for task_ in every:
                task_.cancel()
            await asyncio.gather(*every, return_exceptions=True)

    async def _take_in(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        await self._take(None, first)
        async for request in rest:
            await self._take(topic_in(_STREAM, request), request)
        self._here.put_nowait(None)
        self._waiting.put_nowait(None)

    async def _take(self, topic: str | None, request: bytes) -> None:
        """Take a request in; `topic` is None where it is to be served here, whatever it is."""
        await self._room.acquire()
        if topic is None or await self._is_here(topic):
            before = None if topic is None else self._elsewhere.get(topic)
            if before is not None:  # another broker had the topic until a moment ago
                await asyncio.wait((before,))
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._here.put_nowait(request)
            self._answered_here.put_nowait(answer)
            self._waiting.put_nowait(answer)
            return
        handing = self._hand_on(topic, request, self._elsewhere.get(topic))
        task = self._elsewhere[topic] = asyncio.create_task(handing, name="publish elsewhere")
        self._handed_on.add(task)
        task.add_done_callback(partial(self._forget, topic))
        self._waiting.put_nowait(task)

    def _forget(self, topic: str, task: asyncio.Task[bytes]) -> None:
        self._handed_on.discard(task)
        if self._elsewhere.get(topic) is task:
            del self._elsewhere[topic]

    async def _serve_here(self) -> None:
        async def requests() -> AsyncIterator[Any]:
            while (request := await self._here.get()) is not None:
                yield self._handler.request_deserializer(request)
            self._all_read = True

        async with aclosing(self._handler.stream_stream(requests(), self._context)) as responses:
            async for response in responses:
                answer = await self._answered_here.get()
                answer.set_result(self._handler.response_serializer(response))
        if not self._all_read:
            raise MalformedRequest("A request of the stream cannot be read.")

    async def _hand_on(
        self, topic: str, request: bytes, before: asyncio.Task[bytes] | None
    ) -> bytes:
        if before is not None:
            await asyncio.wait((before,))
        try:
            owner, remaining = partial(self._owner_of, topic), self._context.time_remaining()
            answer = await self._handing_on.ask(_CALL, owner, request, self._metadata, remaining)
        except Refused as refused:
            ended = refused.ended
            refusal = refusal_in(ended.details, ended.code, ended.trailer)
            return pb.PublishStreamResponse(refused=refusal).SerializeToString()
        except BrokerError as error:
            return pb.PublishStreamResponse(refused=refusal_of(error)).SerializeToString()
        published = pb.PublishResponse.FromString(answer)
        return pb.PublishStreamResponse(published=published).SerializeToString()

    async def _answer(self) -> None:
        patience = Patience(self._context)
        while (answering := await self._waiting.get()) is not None:
            answer = await answering
            with patience.waiting():
                await self._context.write(answer)
            self._room.release()
