"""A publish that has come as a whole, answered without a task of its own.

A task and what it awaits cost as much as reading the message does. Of a publish into a topic that
exists, all that is to be waited for is the disk.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from broker.api.answers import refusal
from broker.api.publish import Answer, Headers, created, read
from broker.api.served import Served
from broker.api.under_way import UnderWay
from broker.auth import Caller
from broker.errors import BrokerError
from broker.service import Placed

log = logging.getLogger(__name__)


class Begun:
    """A publish that has been refused, or has its place in the log and waits for the disk.

    `over` is called with it, later than it begins, once it can be answered. Then `end` is to be
    called, once.
    """

    __slots__ = (
        "_answer",
        "_failure",
        "_held",
        "_over",
        "_placed",
        "_served",
        "_told",
        "_under_way",
        "request_id",
    )

    def __init__(
        self,
        served: Served,
        under_way: UnderWay,
        request_id: bytes,
        over: Callable[["Begun"], None],
    ) -> None:
        self.request_id = request_id
        self._over = over
        self._failure: Exception | None = None
        self._told = False
        self._served = served
        self._under_way = under_way
        self._held = 0
        self._answer: Answer
        self._placed: Placed | None = None
        served.under_way += 1

    def hold(self, size: int) -> None:
        """Count what has come of it as under way. Raises Overloaded."""
        self._under_way.take(0, size)
        self._held = size

    def place(self, caller: Caller, topic: str, headers: Headers, body: bytes) -> None:
        """Place what it brings; raises what is refused, and is over once it is durable."""
        broker = self._served.broker
        batch, messages = read(broker, caller, topic, headers, body)
        self._placed, appended = broker.place(topic, messages, self, batch=batch)
        self._answer = created(topic, messages, appended, batch=batch)

    def refuse(self, fault: Exception) -> None:
        """Be over soon, with what is answered for a fault."""
        self._told = True  # the store tells it no more, which may have what it is refused for
        self._answer = self._answer_for(fault)
        asyncio.get_running_loop().call_soon(self._over, self)

    def done(self) -> bool:
        """Say whether it has been told how it ended."""
        return self._told

    def set_result(self, _: None) -> None:
        """Hear that what it brought is on disk."""
        self._told = True
        self._over(self)

    def set_exception(self, error: Exception) -> None:
        """Hear that it may not be."""
        self._failure = error
        self._told = True
        self._over(self)

    def end(self) -> Answer:
        """Count it no more, and answer for it."""
        self._under_way.bytes -= self._held
        self._served.under_way -= 1
        try:
            if self._placed is not None:
                self._served.broker.stored(self._placed, self._failure)
        except Exception as fault:
            return self._answer_for(fault)
        return self._answer

    def _answer_for(self, fault: Exception) -> Answer:
        return failure(fault, self._served.broker.refused, self.request_id)


def failure(fault: Exception, counts: Counter[str] | None, request_id: bytes) -> Answer:
    """Answer for what went wrong with a request, and count a refusal."""
    if not isinstance(fault, BrokerError):
        log.error(
            "A request failed.",
            exc_info=fault,
            extra={"action": "request_failed", "request_id": request_id.decode()},
        )
        return refusal(BrokerError("Something went wrong here; the broker's log says what."))
    if counts is not None:
        counts[fault.code] += 1
    return refusal(fault)
