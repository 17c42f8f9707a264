"""The cases, in the order in which a round runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.clusters import on_jetstream
from bench.end_to_end import Flow, batched, keyed, measure_end_to_end, measure_fan_out
from bench.grpc_publishing import measure_grpc_publishes
from bench.latency import measure_latency
from bench.messages import BATCH_EVENTS
from bench.publishing import measure_baseline, measure_publishes
from bench.result import Result
from bench.rivals.known import RIVALS
from bench.rivals.measuring import measure_rival_end_to_end, measure_rival_publishes
from bench.rivals.nats_jetstream import RIVAL as NATS
from bench.rivals.rival import Rival

BASELINE = "baseline"
CONNECTIONS = 64
PARTITION_KEYS = 1000
DEAD_ENDPOINTS = 10
FAN_OUT = 10


def always_possible() -> str | None:
    """Need nothing that `make bench` does not ask for anyway."""
    return None


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure in a folder of its own, for so many seconds; `full` ones on request.

    `missing` says why it cannot be measured on this machine, if so.
    """

    name: str
    title: str
    measure: Callable[[Path, float], Result]
    full: bool = False
    missing: Callable[[], str | None] = always_possible


def rival_cases(rival: Rival) -> tuple[Case, Case]:
    """Have another broker publish, and deliver."""
    return (
        Case(
            f"{rival.name}-publish",
            f"{rival.title}: publish, {CONNECTIONS} connections",
            partial(measure_rival_publishes, rival=rival, connections=CONNECTIONS),
            missing=rival.missing,
        ),
        Case(
            f"{rival.name}-end-to-end",
            f"{rival.title}: publish to webhook by a forwarder",
            partial(measure_rival_end_to_end, rival=rival, connections=CONNECTIONS),
            missing=rival.missing,
        ),
    )


def cluster_cases(servers: int) -> tuple[Case, Case]:
    """Publish to a broker on JetStream, and have it deliver."""
    title = f"on {servers} NATS server{'s' if servers > 1 else ''}"
    cluster = {"connections": CONNECTIONS, "serve": on_jetstream(servers)}
    return (
        Case(
            f"jetstream-{servers}-publish",
            f"{title}: publish, {CONNECTIONS} connections",
            partial(measure_publishes, **cluster),
            missing=NATS.missing,
        ),
        Case(
            f"jetstream-{servers}-end-to-end",
            f"{title}: publish to webhook",
            partial(measure_end_to_end, flow=Flow(), **cluster),
            missing=NATS.missing,
        ),
    )


CASES = (
    Case(
        BASELINE,
        "baseline: Flask, gthread, SQLite",
        partial(measure_baseline, connections=CONNECTIONS),
    ),
    *(
        Case(
            f"publish-{connections}",
            f"publish, {connections} connections",
            partial(measure_publishes, connections=connections),
            full=connections != CONNECTIONS,
        )
        for connections in (16, 32, CONNECTIONS)
    ),
    Case(
        "grpc-publish",
        f"publish over gRPC, {CONNECTIONS} calls at once",
        partial(measure_grpc_publishes, how="calls", at_once=CONNECTIONS),
    ),
    Case(
        "grpc-stream",
        f"publish on one gRPC stream, {CONNECTIONS} requests ahead",
        partial(measure_grpc_publishes, how="stream", at_once=CONNECTIONS),
    ),
    Case(
        "grpc-stream-batch",
        f"the same, {BATCH_EVENTS} a request",
        partial(measure_grpc_publishes, how="stream", at_once=CONNECTIONS, events=BATCH_EVENTS),
    ),
    Case(
        "end-to-end",
        "publish to webhook",
        partial(measure_end_to_end, connections=CONNECTIONS, flow=Flow()),
    ),
    Case(
        "end-to-end-beside-dead",
        f"the same, beside {DEAD_ENDPOINTS} dead endpoints",
        partial(
            measure_end_to_end,
            connections=CONNECTIONS,
            flow=Flow(dead_endpoints=DEAD_ENDPOINTS),
        ),
    ),
    Case(
        "end-to-end-keyed",
        f"the same, ordered by {PARTITION_KEYS:,} keys",
        partial(measure_end_to_end, connections=CONNECTIONS, flow=keyed(PARTITION_KEYS)),
        full=True,
    ),
    Case(
        "end-to-end-batch",
        "the same, batches of 100",
        partial(measure_end_to_end, connections=CONNECTIONS, flow=batched()),
    ),
    Case(
        "fan-out",
        f"one message to {FAN_OUT} subscriptions, deliveries",
        partial(measure_fan_out, connections=CONNECTIONS, subscriptions=FAN_OUT),
    ),
    *(
        Case(f"latency-{rate}", f"at {rate:,} messages/s", partial(measure_latency, rate=rate))
        for rate in (500, 2000)
    ),
    *(case for servers in (1, 3) for case in cluster_cases(servers)),
    *(case for rival in RIVALS for case in rival_cases(rival)),
)
