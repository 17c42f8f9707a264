"""The topic of a case and its subscriptions, over the broker's API."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.deliveries import POLL_S, STUCK_S, Deliveries, Receiver, await_deliveries
from bench.result import CountsDiffer
from bench.server_process import ServerProcess


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a running broker."""

    broker: ServerProcess
    name: str = "bench"

    @classmethod
    def created(cls, broker: ServerProcess, name: str = "bench", **options: Any) -> "Topic":
        """Create it."""
        topic = cls(broker, name)
        broker.put(topic.path, options)
        return topic

    @property
    def path(self) -> str:
        """Give its path."""
        return f"/v1/topics/{self.name}"

    @property
    def messages_path(self) -> str:
        """Give the path to publish to."""
        return f"{self.path}/messages"

    @property
    def messages_url(self) -> str:
        """Give the URL to publish to."""
        return f"{self.broker.url}{self.messages_path}"

    def subscribe(self, name: str, options: dict[str, Any]) -> None:
        """Create a subscription, or change it."""
        self.broker.put(f"{self.path}/subscriptions/{name}", options)

    def subscription(self, name: str) -> dict[str, Any]:
        """Show a subscription."""
        shown: dict[str, Any] = self.broker.get(f"{self.path}/subscriptions/{name}")
        return shown

    def count(self) -> int:
        """Count the messages it holds."""
        return int(self.broker.get(self.path)["message_count"])


def count(topics: Sequence[Topic]) -> int:
    """Count the messages that topics of one broker hold."""
    if len(topics) == 1:
        return topics[0].count()
    names = {topic.name for topic in topics}
    shown = topics[0].broker.get("/v1/topics")["topics"]
    return sum(int(each["message_count"]) for each in shown if each["name"] in names)


def final_count(topics: Sequence[Topic]) -> int:
    """Count the messages once the last of the dropped requests has been dealt with."""
    before, now = -1, count(topics)
    while now != before:
        time.sleep(POLL_S)
        before, now = now, count(topics)
    return now


@dataclass(frozen=True, slots=True)
class Subscription:
    """The subscription of a receiver to a topic."""

    topic: Topic
    receiver: Receiver
    name: str = "receiver"

    @classmethod
    def created(
        cls, topic: Topic, receiver: Receiver, options: Mapping[str, Any], query: str = ""
    ) -> "Subscription":
        """Subscribe the receiver; the URL's query tells apart what several topics send it."""
        subscription = cls(topic, receiver)
        topic.subscribe(subscription.name, {"endpoint": receiver.endpoint + query, **options})
        return subscription

    def backlog(self) -> int:
        """Count the deliveries that are not settled."""
        return int(self.topic.subscription(self.name)["backlog"])

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
        return await_deliveries(self.receiver, expected)
