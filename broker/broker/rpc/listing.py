"""`ListTopics` where each broker owns some cells of the store: put together from all of them."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from google.protobuf.struct_pb2 import Struct

from broker.errors import NoOwner
from broker.rpc.generated.broker_pb2 import ListTopicsResponse
from broker.rpc.handing_on import HandingOn, handed_on
from broker.rpc.port import OWNER_POLL_S, SERVICE

# Of a call that is for one cell only: another broker puts the list together.
CELL = "broker-cell"
WAIT_S = 5.0
_METHOD = SERVICE.methods_by_name["ListTopics"]


class Listing:
    """Asks the owner of each cell, here or elsewhere, as whoever calls."""

    def __init__(
        self,
        cells: int,
        is_here: Callable[[int], Coroutine[Any, Any, bool]],
        list_here: Callable[[int, Any], Coroutine[Any, Any, ListTopicsResponse]],
        owner_of: Callable[[int], str | None],
        handing_on: HandingOn,
    ) -> None:
        self._cells = cells
        self._is_here = is_here
        self._list_here = list_here
        self._owner_of = owner_of
        self._handing_on = handing_on

    async def list(self, context: Any) -> ListTopicsResponse:
        """List the topics that the caller's key is for. Raises Refused, and a BrokerError."""
        given = context.invocation_metadata() or ()
        cell = next((str(value) for key, value in given if key == CELL), None)
        if cell is not None:
            return await self._list_here(int(cell) if cell.isdecimal() else 0, context)
        asked = (self._part(cell, context) for cell in range(self._cells))
        topics: list[Struct] = []
        for part in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(part, BaseException):
                raise part
            topics.extend(part.topics)
        return ListTopicsResponse(topics=sorted(topics, key=lambda topic: str(topic["name"])))

    async def _part(self, cell: int, context: Any) -> ListTopicsResponse:
        """List the topics of a cell. It may be handed over meanwhile, and has no owner then."""
        until = time.monotonic() + WAIT_S
        while True:
            try:
                if await self._is_here(cell):
                    return await self._list_here(cell, context)
                return await self._ask(cell, context)
            except NoOwner:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(OWNER_POLL_S)

    async def _ask(self, cell: int, context: Any) -> ListTopicsResponse:
        metadata = (*handed_on(context.invocation_metadata() or ()), (CELL, str(cell)))
        owner = partial(self._owner_of, cell)
        remaining = context.time_remaining()
        answer = await self._handing_on.ask(_METHOD, owner, b"", metadata, remaining)
        return ListTopicsResponse.FromString(answer)
