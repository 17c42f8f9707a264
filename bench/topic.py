"""The topic of a case and its one subscription, over the broker's API."""

import time
from dataclasses import dataclass
from typing import Any

from bench.deliveries import Deliveries, Receiver
from bench.result import CountsDiffer
from bench.server_process import ServerProcess

PATH = "/v1/topics/bench"
SUBSCRIPTION_PATH = f"{PATH}/subscriptions/receiver"
POLL_S = 0.1
# Without any progress for so long, a backlog is stuck.
STUCK_S = 30.0
# The endpoint's own count may lag by its buffer.
COUNT_LAG_S = 5.0


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a running broker."""

    broker: ServerProcess

    @classmethod
    def created(cls, broker: ServerProcess) -> "Topic":
        """Create it."""
        broker.put(PATH, {})
        return cls(broker)

    @property
    def messages_path(self) -> str:
        """Give the path to publish to."""
        return f"{PATH}/messages"

    @property
    def messages_url(self) -> str:
        """Give the URL to publish to."""
        return f"{self.broker.url}{self.messages_path}"

    def subscribe(self, name: str, options: dict[str, Any]) -> None:
        """Create a subscription beside the measured one."""
        self.broker.put(f"{PATH}/subscriptions/{name}", options)

    def count(self) -> int:
        """Count the messages it holds."""
        return int(self.broker.get(PATH)["message_count"])

    def final_count(self) -> int:
        """Count the messages once the last of the dropped requests has been dealt with."""
        before, now = -1, self.count()
        while now != before:
            time.sleep(POLL_S)
            before, now = now, self.count()
        return now


@dataclass(frozen=True, slots=True)
class Subscription:
    """The subscription of a receiver to a topic."""

    topic: Topic
    receiver: Receiver

    @classmethod
    def created(cls, topic: Topic, receiver: Receiver, options: dict[str, Any]) -> "Subscription":
        """Subscribe the receiver."""
        topic.broker.put(SUBSCRIPTION_PATH, {"endpoint": receiver.endpoint} | options)
        return cls(topic, receiver)

    def backlog(self) -> int:
        """Count the deliveries that are not settled."""
        return int(self.topic.broker.get(SUBSCRIPTION_PATH)["backlog"])

    def drain(self) -> None:
        """Wait until nothing is owed. Raises CountsDiffer if the backlog stops shrinking."""
        least, seen_at = self.backlog(), time.monotonic()
        while least > 0:
            time.sleep(POLL_S)
            backlog = self.backlog()
            if backlog < least:
                least, seen_at = backlog, time.monotonic()
            elif time.monotonic() - seen_at > STUCK_S:
                raise CountsDiffer(f"{backlog} messages are still owed after {STUCK_S:.0f} s")

    def deliveries(self, expected: int) -> Deliveries:
        """Ask the receiver what it got. Raises CountsDiffer unless that is `expected` messages."""
        deadline = time.monotonic() + COUNT_LAG_S
        got = self.receiver.deliveries()
        while got.received < expected and time.monotonic() < deadline:
            time.sleep(POLL_S)
            got = self.receiver.deliveries()
        if got.received - got.duplicates != expected:
            raise CountsDiffer(f"{expected} messages are stored, the endpoint got {got}")
        return got
