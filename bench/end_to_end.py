"""How many messages a second go from a publish request to a signed webhook."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bench.crowd import subscribe_all
from bench.deliveries import Receiver
from bench.loader import Load
from bench.messages import BATCH, BATCH_EVENTS, JSON, batch, order
from bench.nginx import Nginx, running_nginx
from bench.passage import Passage
from bench.refusing import refusing_port
from bench.result import Result
from bench.server_process import HOST
from bench.servers import Running, ServerUnderTest, running_broker
from bench.stopwatch import running_stopwatch
from bench.topic import Subscription, Topic

MAX_IN_FLIGHT = 128
Options: TypeAlias = dict[str, str | int]
SINGLE: Options = {"ordering": "none", "max_in_flight": MAX_IN_FLIGHT, "format": "binary"}
# Of the time of other cases: each message published is many to deliver.
FAN_OUT_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Flow:
    """The way the messages of a case go in and out."""

    content_type: str = JSON
    body: bytes = field(default_factory=order)
    events: int = 1
    receiver: Callable[[Path], AbstractContextManager[Receiver]] = running_nginx
    options: Options = field(default_factory=SINGLE.copy)
    partition_keys: int = 0
    dead_endpoints: int = 0


def keyed(partition_keys: int) -> Flow:
    """Take one message a request, send one a webhook, in the order of so many keys."""
    return Flow(options=SINGLE | {"ordering": "key"}, partition_keys=partition_keys)


def batched() -> Flow:
    """Take a hundred messages a request, send up to a hundred a webhook."""
    options = SINGLE | {"format": "batch", "max_batch": BATCH_EVENTS}
    return Flow(BATCH, batch(), BATCH_EVENTS, running_stopwatch, options)


def measure_end_to_end(
    folder: Path, seconds: float, connections: int, flow: Flow, serve: Running = running_broker
) -> Result:
    """Publish for the given time, wait until all is delivered, compare the counts."""
    body = folder / "body"
    body.write_bytes(flow.body)
    with (
        serve(folder) as server,
        flow.receiver(folder) as receiver,
        refusing_port() as refusing,
    ):
        topic = Topic.created(server.process)
        dead = {"endpoint": f"http://{HOST}:{refusing}/"} | flow.options
        for number in range(flow.dead_endpoints):
            topic.subscribe(f"dead-{number}", dead)
        subscription = Subscription.created(topic, receiver, flow.options)
        load = Load(
            topic.messages_url,
            flow.content_type,
            body,
            connections,
            seconds,
            variants=max(flow.partition_keys, 1),
            headers={"ce-partitionkey": "key-{n}"} if flow.partition_keys else {},
        )
        passage = Passage(server, [topic], receiver, watched=[subscription])
        return passage.measure(load, flow.events)


def end_to_end_on(
    topic: Topic, server: ServerUnderTest, nginx: Nginx, load: Load
) -> Callable[[], Result]:
    """Give a topic a subscription of its own, and return what measures a load on it."""
    receiver = Subscription.created(topic, nginx, SINGLE)
    return partial(Passage(server, [topic], nginx, watched=[receiver]).measure, load)


def measure_fan_out(folder: Path, seconds: float, connections: int, subscriptions: int) -> Result:
    """Publish to a topic with many subscriptions; every delivery counts."""
    body = folder / "body"
    body.write_bytes(order())
    with running_broker(folder) as server, running_nginx(folder) as nginx:
        topic = Topic.created(server.process)
        subscribe_all([topic], subscriptions, {"endpoint": nginx.endpoint} | SINGLE)
        load = Load(topic.messages_url, JSON, body, connections, max(seconds * FAN_OUT_SHARE, 1))
        return Passage(server, [topic], nginx, fan_out=subscriptions).measure(load)
