"""Publishing events over HTTP."""

import time
from collections.abc import Callable, Sequence

from broker_client.event import Event
from broker_client.formats import BATCH, STRUCTURED
from broker_client.publishing import EventPublisher, Published, check_count
from broker_client.receipts import messages_path, read_receipt, read_receipts
from broker_client.tracing import stamped
from broker_client.transport import Transport


class Publisher(EventPublisher):
    """Publishes events; returns once they are on the broker's disk.

    A request that gets no answer, or 408, 429, 502, 503, 504 or 507, is sent again, up to
    `max_attempts` times, after a random wait of at most `min_backoff_s` that doubles up to
    `max_backoff_s`, or the wait that the broker asks for. Repeats are harmless: the broker knows
    the event by its source and id. Safe to share between threads; connections are kept open.

    `source` is for `publish_data`. Every publishing method raises BrokerRefused where the broker
    says that the request is wrong, BrokerUnavailable where it stays out of reach.
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(source)
        self._transport = Transport(
            base_url,
            api_key=api_key,
            timeout_s=timeout_s,
            max_attempts=max_attempts,
            min_backoff_s=min_backoff_s,
            max_backoff_s=max_backoff_s,
            sleep=sleep,
        )

    def publish(self, topic: str, event: Event) -> Published:
        """Publish one event."""
        content = stamped(topic, event).to_json().encode()
        answer = self._transport.call(
            "POST", messages_path(topic), content=content, content_type=STRUCTURED
        )
        return read_receipt(answer)

    def publish_batch(self, topic: str, events: Sequence[Event]) -> list[Published]:
        """Publish up to 1,000 events in one request, all or none; return receipts in order."""
        return self.publish_encoded(topic, [stamped(topic, event).to_json() for event in events])

    def publish_encoded(
        self, topic: str, events: Sequence[str], *, max_attempts: int | None = None
    ) -> list[Published]:
        """Publish a batch of events that `Event.to_json` has written before."""
        check_count(events)
        if not events:
            return []

        answer = self._transport.call(
            "POST",
            messages_path(topic),
            content=f"[{','.join(events)}]".encode(),
            content_type=BATCH,
            max_attempts=max_attempts,
        )
        return read_receipts(answer, len(events))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
