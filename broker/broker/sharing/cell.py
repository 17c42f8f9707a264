"""A cell of the store in this process: stood by for, owned, left to another broker, and again."""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from broker.api.served import Served
from broker.life import Life

log = logging.getLogger(__name__)

FINISH_S = 5.0
FINISH_POLL_S = 0.01


class Cell:
    """One cell. `served` is what answers its requests here, None while it is not owned."""

    def __init__(
        self,
        number: int,
        make: Callable[[], Life],
        begin: Callable[[Life], Coroutine[None, None, Served]],
        changed: Callable[[], None],
    ) -> None:
        self.number = number
        self.served: Served | None = None
        self._make = make
        self._begin = begin
        self._changed = changed
        self._life = make()
        self._leaving = asyncio.Event()
        self._follower: str | None = None
        self._last = False
        self._left = False  # for good: what becomes of it is not heard any more
        self._task: asyncio.Task[None] | None = None

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Begin to stand by."""

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                failed(error)

        self._task = asyncio.create_task(self._run(), name=f"cell {self.number}")
        self._task.add_done_callback(ended)

    async def standing_by(self) -> None:
        """End when another broker owns it, and this one has to wait."""
        await self._life.store.standing_by()

    def owner(self) -> str | None:
        """Return the URL of the broker that owns it instead, None where that is not known."""
        return self._life.store.owner() or (self._follower if self._left else None)

    def rpc_owner(self) -> str | None:
        """Return where the gRPC of that broker is, None likewise."""
        return self._life.store.rpc_owner()

    def able(self) -> bool:
        """Say whether this broker could take it over at once."""
        return self.served is None and self._life.store.follows()

    def leaves(self) -> bool:
        """Say whether it is owned here no longer than it takes to finish."""
        return self._leaving.is_set()

    def leave(self, follower: str | None) -> None:
        """Finish what is under way, then let another broker follow; `follower`, where given."""
        self._follower = follower
        self._leaving.set()

    async def stop(self, follower: str | None) -> None:
        """Leave it for good, or stand by for it no longer."""
        self._last = True
        if self._task is None or self._left:
            return
        if self.served is not None or self._leaving.is_set():
            if not self._leaving.is_set():
                self.leave(follower)
            await asyncio.wait((self._task,))
            return
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._life.end_deliveries()
        await self._life.let_go(follower)

    async def _run(self) -> None:
        while True:
            await self._life.store.open()
            self.served = await self._begin(self._life)
            self._changed()
            await self._leaving.wait()
            await self._leave(self.served)
            self._leaving.clear()
            if self._last:
                self._left = True
                return
            self._life = self._make()

    async def _leave(self, served: Served) -> None:
        """Nothing is sent by the time that others hear of it, and nothing begun is cut off."""
        log.info(
            "Cell %d goes to %s.",
            self.number,
            self._follower or "another broker",
            extra={"action": "hand_over"},
        )
        await self._life.drain()
        self.served = None  # from here on requests wait for the next owner
        served.ending.set()
        deadline = asyncio.get_running_loop().time() + FINISH_S
        while (  # noqa: ASYNC110 rare and short
            served.under_way and asyncio.get_running_loop().time() < deadline
        ):
            await asyncio.sleep(FINISH_POLL_S)
        await self._life.end_deliveries()  # only now: what is under way may be an ack
        await self._life.let_go(self._follower)
