"""Publishing from many threads, or without waiting, in few requests."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from operator import attrgetter

from broker_client.batches import split_batches
from broker_client.closing import Closing
from broker_client.errors import BrokerRefused
from broker_client.event import Event
from broker_client.names import check_name
from broker_client.publishing import MAX_BATCH, EventPublisher, Published
from broker_client.tracing import stamped

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""How large a request may become, unless a single event is larger."""
_NO_TOPIC = 404


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event, as it travels, that waits for its receipt."""

    topic: str
    event: str
    receipt: Future[Published] = field(default_factory=Future)


class BatchingPublisher(Closing):
    """Publishes what comes while one request is under way in the next one.

    A single publisher waits for nothing; under load a request carries up to 1,000 events. A topic's
    events are sent in the order of their `publish`, one request at a time. `max_pending` events may
    wait; `publish` blocks beyond that. A refused event fails alone: its batch is sent again without
    it. Where the broker stays out of reach, the events of that request fail, and later ones are
    tried: to keep a key's order over that, use an `Outbox`.

    Make it after the fork, for it has a thread of its own, in which the futures' callbacks run:
    what they publish is not held up by `max_pending`. What waits is lost if the process ends before
    `close`.
    """

    def __init__(self, publisher: EventPublisher, *, max_pending: int = 10_000) -> None:
        if max_pending < 1:
            raise ValueError(f"max_pending must be 1 or more, not {max_pending!r}")
        self._publisher = publisher
        self._max_pending = max_pending
        self._pending: deque[Waiting] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def publish(self, topic: str, event: Event) -> "Future[Published]":
        """Have an event published; the future gives its receipt once it is on the broker's disk.

        Or it raises BrokerRefused or BrokerUnavailable. Raises TypeError or ValueError here for an
        event that JSON cannot say, RuntimeError after `close`.
        """
        waiting = Waiting(check_name("topic", topic), stamped(topic, event).to_json())
        with self._changed:
            self._changed.wait_for(self._takes_more)
            if self._closed:
                raise RuntimeError("the publisher is closed")
            self._pending.append(waiting)
            self._changed.notify_all()
        return waiting.receipt

    def close(self) -> None:
        """Publish what waits, and end; the publisher it was given stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if not self._sends():
            self._thread.join()

    def _takes_more(self) -> bool:
        # Nobody else makes room: the thread that sends must not wait for it.
        return self._closed or len(self._pending) < self._max_pending or self._sends()

    def _sends(self) -> bool:
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        while (found := self._next()) is not None:
            events = [each for each in found if each.receipt.set_running_or_notify_cancel()]
            events.sort(key=attrgetter("topic"))  # stable: a topic's events keep their order
            for batch in split_batches(events, MAX_BATCH_BYTES):
                self._publish(batch)

    def _next(self) -> list[Waiting] | None:
        """Return what waits, once there is something; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            if not self._pending:
                return None
            count = min(MAX_BATCH, len(self._pending))
            found = [self._pending.popleft() for _ in range(count)]
            self._changed.notify_all()
        return found

    def _publish(self, batch: Sequence[Waiting]) -> None:
        """Publish events of one topic; halve a refused batch until the refused event is alone."""
        try:
            receipts = self._publisher.publish_encoded(
                batch[0].topic, [each.event for each in batch]
            )
        except BrokerRefused as refusal:
            if len(batch) == 1 or refusal.of_sender or refusal.status == _NO_TOPIC:
                _fail(batch, refusal)
                return
            middle = len(batch) // 2
            self._publish(batch[:middle])
            self._publish(batch[middle:])
        except Exception as error:  # whatever it is, nobody may wait for ever
            _fail(batch, error)
        else:
            for each, receipt in zip(batch, receipts, strict=True):
                each.receipt.set_result(receipt)


def _fail(batch: Sequence[Waiting], error: Exception) -> None:
    for each in batch:
        each.receipt.set_exception(error)
