"""Publishing events over HTTP."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker_client.closing import Closing
from broker_client.errors import BrokerUnavailable
from broker_client.event import Event
from broker_client.formats import BATCH, STRUCTURED
from broker_client.names import check_name
from broker_client.transport import Answer, Transport
from broker_client.uuid7 import uuid7

MAX_BATCH = 1000
"""How many events the broker takes in one request."""


@dataclass(frozen=True, slots=True)
class Published:
    """The broker's receipt for one event: it is on disk.

    `sequence` is its place in the topic, None for an event that waits for its `deliverat`;
    `duplicate` says that the topic had an event of this source and id before, and kept that one.
    """

    id: str
    sequence: int | None
    duplicate: bool


class Publisher(Closing):
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
        self._source = source
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
        answer = self._transport.call(
            "POST", _path(topic), content=event.to_json().encode(), content_type=STRUCTURED
        )
        return _receipt(answer, answer.document)

    def publish_batch(self, topic: str, events: Sequence[Event]) -> list[Published]:
        """Publish up to 1,000 events in one request, all or none; return receipts in order."""
        return self.publish_encoded(topic, [event.to_json() for event in events])

    def publish_encoded(
        self, topic: str, events: Sequence[str], *, max_attempts: int | None = None
    ) -> list[Published]:
        """Publish a batch of events that `Event.to_json` has written before."""
        if len(events) > MAX_BATCH:
            raise ValueError(f"a batch has at most {MAX_BATCH} events, not {len(events)}")
        if not events:
            return []

        answer = self._transport.call(
            "POST",
            _path(topic),
            content=f"[{','.join(events)}]".encode(),
            content_type=BATCH,
            max_attempts=max_attempts,
        )
        return _receipts(answer, len(events))

    def publish_data(
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
        event = Event(
            type=type,
            source=f"/topics/{topic}" if self._source is None else self._source,
            data=data,
            id=uuid7() if id is None else id,
            subject=subject,
            partitionkey=key,
        )
        return self.publish(topic, event)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def _path(topic: str) -> str:
    return f"/v1/topics/{check_name('topic', topic)}/messages"


def _receipts(answer: Answer, count: int) -> list[Published]:
    messages = answer.document.get("messages") if isinstance(answer.document, Mapping) else None
    if not isinstance(messages, list) or len(messages) != count:
        raise _not_a_receipt(answer)
    return [_receipt(answer, message) for message in messages]


def _receipt(answer: Answer, message: Any) -> Published:
    try:
        return Published(message["id"], message["sequence"], message.get("duplicate", False))
    except (KeyError, TypeError, AttributeError):
        raise _not_a_receipt(answer) from None


def _not_a_receipt(answer: Answer) -> BrokerUnavailable:
    return BrokerUnavailable(
        "something other than the broker answered: no receipt", status=answer.status
    )
