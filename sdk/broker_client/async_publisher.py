"""Publishing events from an event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from broker_client.async_transport import AsyncTransport
from broker_client.event import Event
from broker_client.formats import BATCH, STRUCTURED
from broker_client.publishing import Published, check_count, data_event
from broker_client.receipts import messages_path, read_receipt, read_receipts
from broker_client.retries import Retries
from broker_client.tracing import stamped


class AsyncPublisher:
    """Publishes events over HTTP, as a `Publisher` does, without holding up the event loop.

    What is sent again, after which waits, and what is raised is the same. For any number of tasks;
    what several of them publish has no order, what one task publishes after the other has. One that
    is cancelled may have published: to publish the same event again is harmless.
    """

    def __init__(
        self,
        base_url: str,
        *,
        source: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        max_attempts: int = 5,
        min_backoff_s: float = 0.1,
        max_backoff_s: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._transport = AsyncTransport(
            base_url,
            api_key=api_key,
            timeout_s=timeout_s,
            retries=Retries(max_attempts, min_backoff_s, max_backoff_s),
            sleep=sleep,
        )

    async def publish(self, topic: str, event: Event) -> Published:
        """Publish one event."""
        content = stamped(topic, event).to_json().encode()
        answer = await self._transport.call(
            "POST", messages_path(topic), content=content, content_type=STRUCTURED
        )
        return read_receipt(answer)

    async def publish_batch(self, topic: str, events: Sequence[Event]) -> list[Published]:
        """Publish up to 1,000 events in one request, all or none; return receipts in order."""
        return await self.publish_encoded(
            topic, [stamped(topic, event).to_json() for event in events]
        )

    async def publish_encoded(
        self, topic: str, events: Sequence[str], *, max_attempts: int | None = None
    ) -> list[Published]:
        """Publish a batch of events that `Event.to_json` has written before."""
        check_count(events)
        if not events:
            return []

        answer = await self._transport.call(
            "POST",
            messages_path(topic),
            content=f"[{','.join(events)}]".encode(),
            content_type=BATCH,
            max_attempts=max_attempts,
        )
        return read_receipts(answer, len(events))

    async def publish_data(
        self,
        topic: str,
        data: Any,
        *,
        type: str,
        key: str | None = None,
        id: str | None = None,
        subject: str | None = None,
    ) -> Published:
        """Publish `data` as a new event of the publisher's `source`, or `/topics/<topic>`.

        `key` is the event's partitionkey. With an `id` of the caller's own, the call may be
        repeated even by another process.
        """
        event = data_event(topic, data, self._source, type=type, key=key, id=id, subject=subject)
        return await self.publish(topic, event)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
