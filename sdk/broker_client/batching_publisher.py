"""Publishing from many threads, or without waiting, in few requests."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from queue import Empty, Queue
from threading import Lock
from types import TracebackType
from typing import Self

from broker_client.background import Background, Pulse
from broker_client.errors import BrokerRefused
from broker_client.event import Event
from broker_client.names import check_name
from broker_client.publisher import MAX_BATCH, Published, Publisher

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""How large a request may become, unless a single event is larger."""
_SENDER_REFUSED = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event, as it travels, that waits for its receipt."""

    topic: str
    event: str
    receipt: Future[Published] = field(default_factory=Future)


class BatchingPublisher:
    """Publishes what comes while one request is under way in the next one.

    A single publisher waits for nothing; under load a request carries up to 1,000 events. A topic's
    events are sent in the order of their `publish`, one request at a time. `max_pending` events may
    wait; `publish` blocks beyond that. A refused event fails alone: its batch is sent again without
    it. Where the broker stays out of reach, the events of that request fail, and later ones are
    tried: to keep a key's order over that, use an `Outbox`.

    Make it after the fork: it has a thread of its own.
    """

    def __init__(self, publisher: Publisher, *, max_pending: int = 10_000) -> None:
        if max_pending < 1:
            raise ValueError(f"max_pending must be 1 or more, not {max_pending!r}")
        self._publisher = publisher
        self._queue: Queue[Waiting | None] = Queue(max_pending)
        self._closed = False
        self._lock = Lock()
        self._background = Background("publish", self._run)
        self._background.start()

    def publish(self, topic: str, event: Event) -> "Future[Published]":
        """Have an event published; the future gives its receipt once it is on the broker's disk.

        Or it raises BrokerRefused or BrokerUnavailable. Raises TypeError or ValueError here for an
        event that JSON cannot say, RuntimeError after `close`.
        """
        waiting = Waiting(check_name("topic", topic), event.to_json())
        with self._lock:  # nothing may come behind the end
            if self._closed:
                raise RuntimeError("the publisher is closed")
            self._queue.put(waiting)
        return waiting.receipt

    def close(self) -> None:
        """Publish what waits, and end; the `Publisher` stays open."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._background.stop(timeout_s=600.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, pulse: Pulse) -> None:  # ends with what waits, and not by the pulse
        going = True
        while going:
            found = [self._queue.get(), *self._rest()]
            going = None not in found
            events = [
                each
                for each in found
                if each is not None and each.receipt.set_running_or_notify_cancel()
            ]
            events.sort(key=attrgetter("topic"))  # stable: a topic's events keep their order
            for topic, of_topic in groupby(events, attrgetter("topic")):
                for batch in split(list(of_topic)):
                    self._publish(topic, batch)

    def _rest(self) -> Iterator[Waiting | None]:
        for _ in range(MAX_BATCH - 1):
            try:
                yield self._queue.get_nowait()
            except Empty:
                return

    def _publish(self, topic: str, batch: Sequence[Waiting]) -> None:
        try:
            receipts = self._publisher.publish_encoded(topic, [each.event for each in batch])
        except BrokerRefused as refusal:
            if len(batch) > 1 and refusal.status not in _SENDER_REFUSED:
                middle = len(batch) // 2
                self._publish(topic, batch[:middle])
                self._publish(topic, batch[middle:])
            else:
                _fail(batch, refusal)
        except Exception as error:  # whatever it is, nobody may wait for ever
            _fail(batch, error)
        else:
            for each, receipt in zip(batch, receipts, strict=True):
                each.receipt.set_result(receipt)


def split(events: Sequence[Waiting], max_bytes: int = MAX_BATCH_BYTES) -> Iterator[list[Waiting]]:
    """Yield stretches that are no longer than this, each of one event at least."""
    batch: list[Waiting] = []
    size = 0
    for each in events:
        length = len(each.event.encode())
        if batch and size + length > max_bytes:
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += length
    if batch:
        yield batch


def _fail(batch: Sequence[Waiting], error: Exception) -> None:
    for each in batch:
        each.receipt.set_exception(error)
