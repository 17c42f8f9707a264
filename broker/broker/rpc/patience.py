"""How long a stream waits for a client that takes nothing of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc

from broker.errors import BrokerError
from broker.rpc.refusals import refuse

STALL_S = 60.0


class ReaderTooSlow(BrokerError):
    """The client took nothing of the stream for too long."""

    status = 503
    code = "reader_too_slow"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__(
            f"The stream is ended because nothing of it was taken for {STALL_S:g} s. Open it again."
        )


class Patience:
    """Ends one call, made by the task that serves it, once its client takes nothing."""

    def __init__(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        self._context = context
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait within for the client to take what it is sent, and no longer than STALL_S."""
        timer = self._loop.call_later(STALL_S, self._give_up)
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._ending = self._loop.create_task(self._end(), name="end of a slow stream")

    async def _end(self) -> None:
        """Leave word for the client, and end the task that waits for it.

        The word comes behind what the client has not taken yet; nobody waits until it has.
        """
        refusing = asyncio.ensure_future(refuse(self._context, ReaderTooSlow()))
        await asyncio.sleep(0)  # it is on its way
        if self._task is not None:
            self._task.cancel()
        with suppress(grpc.aio.AbortError):
            await refusing
