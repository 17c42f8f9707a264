"""How many messages a second go from a publish request to a signed webhook.

The loader is not slowed when the broker takes messages faster than it delivers them. So the time
runs from the first publish to the last webhook, over all messages, and no backlog is left.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bench.deliveries import Receiver
from bench.loader import Load, run_wrk
from bench.messages import BATCH, BATCH_EVENTS, JSON, batch, order
from bench.nginx import running_nginx
from bench.publishing import check_stored
from bench.result import Result, cost_since
from bench.servers import running_broker
from bench.stopwatch import running_stopwatch
from bench.topic import Subscription, Topic

MAX_IN_FLIGHT = 128
Options: TypeAlias = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Flow:
    """The way the messages of a case go in and out."""

    content_type: str
    body: bytes
    events: int
    receiver: Callable[[Path], AbstractContextManager[Receiver]]
    options: Options
    partition_keys: int = 0
    dead_endpoints: int = 0


def single(ordering: str = "none", partition_keys: int = 0, dead_endpoints: int = 0) -> Flow:
    """Take one message a request, send one a webhook; others' endpoints may refuse connections."""
    options: Options = {"ordering": ordering, "max_in_flight": MAX_IN_FLIGHT, "format": "binary"}
    return Flow(JSON, order(), 1, running_nginx, options, partition_keys, dead_endpoints)


def batched() -> Flow:
    """Take a hundred messages a request, send up to a hundred a webhook."""
    options: Options = {"ordering": "none", "max_in_flight": MAX_IN_FLIGHT, "format": "batch"}
    options |= {"max_batch": BATCH_EVENTS}
    return Flow(BATCH, batch(), BATCH_EVENTS, running_stopwatch, options)


@contextmanager
def refusing_endpoint() -> Iterator[str]:
    """Keep a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def measure_end_to_end(folder: Path, seconds: float, connections: int, flow: Flow) -> Result:
    """Publish for the given time, wait until all is delivered, compare the counts."""
    body = folder / "body"
    body.write_bytes(flow.body)
    with (
        running_broker(folder) as server,
        flow.receiver(folder) as receiver,
        refusing_endpoint() as refusing,
    ):
        topic = Topic.created(server.process)
        for number in range(flow.dead_endpoints):
            topic.subscribe(f"dead-{number}", {"endpoint": refusing} | flow.options)
        subscription = Subscription.created(topic, receiver, flow.options)
        load = Load(
            topic.messages_url, flow.content_type, body, connections, seconds, flow.partition_keys
        )
        cpu_s, started_at = server.cpu_seconds(), time.time()
        outcome = run_wrk(load)
        backlog = subscription.backlog()
        subscription.drain()
        cost = cost_since(cpu_s, server)

        stored = topic.final_count()
        check_stored(outcome.accepted * flow.events, stored, connections * flow.events)
        last_at = subscription.deliveries(stored).last_at
    return Result(
        messages=stored,
        seconds=last_at - started_at,
        cost=cost,
        errors=outcome.errors,
        backlog=backlog,
    )
