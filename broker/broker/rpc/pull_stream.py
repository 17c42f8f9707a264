"""One client's stream of deliveries: no more out than it can take, acks on the way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence

from broker.dispatch.puller import Pulled
from broker.errors import Fault, InvalidRequest
from broker.model import Result
from broker.pulls import MAX_MESSAGES, MAX_WAIT_S, Pulls
from broker.rpc.generated import broker_pb2 as pb

DEFAULT_OUTSTANDING = 100
# A client takes 4 MiB at once unless told otherwise; the last message may be a large one.
PULLED_BYTES = 2 * 1024 * 1024
_ACTS = (("ack", "ack_ids"), ("nack", "nack_ids"), ("extend", "extend_ids"))

Step = tuple[Sequence[Pulled], Sequence[pb.AckResult]]


class PullStream:
    """Pulls while there is room, and makes room with what the client acknowledges.

    `first` names the subscription and how much may be out; it may bring acks as well, of an earlier
    stream for one. A lease that lapses is not noticed here: its room comes back with the answer
    that it has lapsed, or with the stream's end.
    """

    def __init__(self, pulls: Pulls, first: pb.StreamingPullRequest, ended: asyncio.Event) -> None:
        self._pulls = pulls
        self._topic, self._name = first.topic, first.subscription
        self._first = first
        self._ended = ended
        self._room = first.max_outstanding or DEFAULT_OUTSTANDING
        self._has_room = asyncio.Event()
        self._out: set[str] = set()
        self._steps: asyncio.Queue[Step | BaseException | None] = asyncio.Queue(1)
        if not 1 <= self._room <= MAX_MESSAGES:
            rule = f"must be a whole number from 1 to {MAX_MESSAGES}"
            raise InvalidRequest([Fault("max_outstanding", rule)])

    async def run(
        self, requests: AsyncIterator[pb.StreamingPullRequest]
    ) -> AsyncGenerator[Step, None]:
        """Yield deliveries, and what became of acks, until the client has nothing more to say."""
        tasks = (
            asyncio.create_task(self._watched(self._take_acks(requests)), name="acks of a stream"),
            asyncio.create_task(self._watched(self._pull()), name="pulls of a stream"),
        )
        try:
            while (step := await self._steps.get()) is not None:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watched(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            await self._steps.put(error)
        else:
            await self._steps.put(None)

    async def _pull(self) -> None:
        while not self._ended.is_set():
            self._has_room.clear()
            if len(self._out) >= self._room:
                await self._has_room.wait()
                continue
            limit = self._room - len(self._out)
            pulled = await self._pulls.take(
                self._topic, self._name, limit, MAX_WAIT_S, self._ended, PULLED_BYTES
            )
            if pulled:
                self._out.update(
                    self._pulls.ack_id(self._topic, self._name, each.claim)
                    for each in pulled
                    if each.claim is not None
                )
                await self._steps.put((pulled, ()))

    async def _take_acks(self, requests: AsyncIterator[pb.StreamingPullRequest]) -> None:
        await self._settle(self._first)
        async for request in requests:
            await self._settle(request)

    async def _settle(self, request: pb.StreamingPullRequest) -> None:
        for act, field in _ACTS:
            ids = list(getattr(request, field))
            if not ids:
                continue
            told: Sequence[Result] = await getattr(self._pulls, act)(
                self._topic, self._name, {"ack_ids": ids}
            )
            if act != "extend":
                self._out.difference_update(ids)
            self._out.difference_update(
                id_ for id_, result in zip(ids, told, strict=True) if result != "settled"
            )
            self._has_room.set()
            results = [
                pb.AckResult(ack_id=id_, result=each) for id_, each in zip(ids, told, strict=True)
            ]
            await self._steps.put(((), results))
