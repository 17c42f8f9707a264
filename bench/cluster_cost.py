"""What a message costs each part of a cluster: the broker that owns it, those beside it, NATS."""

import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.cluster_usage import Parts, Used, leader_of, look_at
from bench.clusters import Cluster, started_cluster
from bench.deliveries import POLL_S, STUCK_S
from bench.end_to_end import Flow, batched
from bench.finding import Finding, LeftOut, Say
from bench.idle import SETTLE_S
from bench.loader import Load, run_wrk
from bench.messages import BATCH, BATCH_EVENTS, JSON, batch, order
from bench.passage import Passage
from bench.publishing import check_stored
from bench.result import CountsDiffer
from bench.rivals.nats_jetstream import RIVAL as NATS
from bench.scale import Scale
from bench.table import Table
from bench.topic import Subscription, Topic, final_count

US = 1e6
REST = "rest"
REST_S = 5.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A load on a cluster of so many NATS servers; without a flow nobody subscribes."""

    name: str
    title: str
    servers: int
    connections: int
    events: int = 1
    flow: Flow | None = None


def kinds() -> list[Kind]:
    """List the loads: few and many messages to a record of the journal, and both ways."""
    return [
        *(Kind(f"publish-{n}", f"publish, {n} connections", 3, n) for n in (1, 4, 16, 64)),
        Kind(
            "publish-batch", f"publish {BATCH_EVENTS} a request, 8 connections", 3, 8, BATCH_EVENTS
        ),
        Kind("deliver", "publish to webhook, 64 connections", 3, 64, flow=Flow()),
        Kind(
            "deliver-batch",
            f"the same, {BATCH_EVENTS} a request and a webhook, 8 connections",
            3,
            8,
            BATCH_EVENTS,
            batched(),
        ),
        Kind("alone-publish-64", "one NATS server: publish, 64 connections", 1, 64),
        Kind("alone-deliver", "one NATS server: publish to webhook", 1, 64, flow=Flow()),
    ]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one message cost, in microseconds of processor time and in bytes.

    `behind_s` is how much longer the standby took to have it all.
    """

    per_second: float
    records: float
    sent_bytes: float
    owner: Used
    couriers: Used
    standby: Used
    leader: Used
    follower: Used
    behind_s: float


def measure_cluster_cost(folder: Path, scale: Scale, say: Say) -> Finding:
    """Put each load on a cluster of its own, a few times."""
    if (why := NATS.missing()) is not None:
        raise LeftOut(why)
    say("at rest")
    found = {REST: _at_rest(folder / REST)}
    for kind in kinds():
        say(kind.title)
        place = folder / kind.name
        place.mkdir()
        with started_cluster(place, kind.servers) as cluster:
            costs = [
                measure_load(cluster, kind, place, scale.step_s, n) for n in range(scale.steps)
            ]
        shutil.rmtree(place)
        found[kind.name] = cheapest(costs)
    return finding_of(found)


def _at_rest(folder: Path) -> Cost:
    """Watch a cluster that has nothing to do. What it costs is of a second, not of a message."""
    folder.mkdir()
    with started_cluster(folder, servers=3) as cluster:
        time.sleep(SETTLE_S)
        before = look_at(cluster)
        time.sleep(REST_S)
        cost = cost_of(look_at(cluster) - before, REST_S, REST_S, leader_of(cluster), 0.0)
    shutil.rmtree(folder)
    return cost


def measure_load(cluster: Cluster, kind: Kind, folder: Path, seconds: float, number: int) -> Cost:
    """Put a load on a cluster once, on a topic of the given number."""
    body = folder / "body"
    body.write_bytes(order() if kind.events == 1 else batch())
    topic = Topic.created(cluster.owner.process, f"bench-{number}")
    content_type = JSON if kind.events == 1 else BATCH
    load = Load(topic.messages_url, content_type, body, kind.connections, seconds)
    before = look_at(cluster)
    if kind.flow is None:
        messages, took_s = _publish(topic, load, kind.events)
    else:
        messages, took_s = _deliver(cluster, topic, kind.flow, load, folder / f"{number}")
    behind_s = _await_standby(cluster)
    return cost_of(look_at(cluster) - before, messages, took_s, leader_of(cluster), behind_s)


def _publish(topic: Topic, load: Load, events: int) -> tuple[int, float]:
    outcome = run_wrk(load)
    stored = final_count([topic])
    check_stored(outcome.accepted * events, stored, load.connections * events)
    return stored, outcome.seconds


def _deliver(
    cluster: Cluster, topic: Topic, flow: Flow, load: Load, folder: Path
) -> tuple[int, float]:
    folder.mkdir()
    with flow.receiver(folder) as receiver:
        subscription = Subscription.created(topic, receiver, flow.options)
        passage = Passage(cluster.owner, [topic], receiver, watched=[subscription])
        result = passage.measure(load, flow.events)
        topic.broker.delete(f"{topic.path}/subscriptions/{subscription.name}")
    return result.messages, result.seconds


def _await_standby(cluster: Cluster) -> float:
    """Wait until the standby has what the journal had; say how long. Raises CountsDiffer."""
    began = time.monotonic()
    wanted = look_at(cluster).records
    with closing(sqlite3.connect(f"file:{cluster.standby.database}?mode=ro", uri=True)) as copy:
        while copy.execute("SELECT seq FROM replica").fetchone()[0] < wanted:
            if time.monotonic() > began + STUCK_S:
                raise CountsDiffer(f"the standby does not come to {wanted:,}")
            time.sleep(POLL_S)
    return time.monotonic() - began


def cost_of(parts: Parts, messages: float, seconds: float, leader: int, behind_s: float) -> Cost:
    """Share what was used by the messages; `leader` is the number of the NATS server that led."""
    followers = [each for number, each in enumerate(parts.nats) if number != leader]
    follower = sum(followers, Used()).shared(max(len(followers), 1))
    return Cost(
        messages / seconds,
        parts.records / messages,
        parts.sent_bytes / messages,
        parts.owner.shared(messages),
        parts.couriers.shared(messages),
        parts.standby.shared(messages),
        parts.nats[leader].shared(messages),
        follower.shared(messages),
        behind_s,
    )


def cheapest(costs: Sequence[Cost]) -> Cost:
    """Pick the repeat that took least of the processor: other work on the machine only adds."""
    return min(costs, key=lambda each: sum(getattr(each, part).cpu_s for part in PARTS))


PARTS = ("owner", "couriers", "standby", "leader", "follower")


def finding_of(found: dict[str, Cost]) -> Finding:
    """Word what was measured."""
    titles = {REST: "at rest, a second"} | {kind.name: kind.title for kind in kinds()}
    cpu = Table(
        ("CPU us a message", "messages/s", "a record", *PARTS, "standby behind, s"),
        tuple(
            (
                titles[name],
                f"{cost.per_second:,.0f}",
                f"{1 / cost.records:,.1f}",
                *(f"{getattr(cost, part).cpu_s * US:,.1f}" for part in PARTS),
                f"{cost.behind_s:.2f}",
            )
            for name, cost in found.items()
        ),
    )
    moved = Table(
        (
            "bytes a message",
            "to NATS",
            "leader: in",
            "out",
            "disk",
            "follower: in",
            "out",
            "disk",
            "owner: disk",
            "standby: disk",
        ),
        tuple(
            (
                titles[name],
                *(
                    f"{value:,.0f}"
                    for value in (
                        cost.sent_bytes,
                        cost.leader.in_bytes,
                        cost.leader.out_bytes,
                        cost.leader.disk_bytes,
                        cost.follower.in_bytes,
                        cost.follower.out_bytes,
                        cost.follower.disk_bytes,
                        cost.owner.disk_bytes,
                        cost.standby.disk_bytes,
                    )
                ),
            )
            for name, cost in found.items()
        ),
    )
    return Finding(tables=(cpu, moved), figures=figures_of(found))


def figures_of(found: dict[str, Cost]) -> dict[str, float]:
    """Give every figure a name: `publish-64.leader.cpu_s`."""
    figures: dict[str, float] = {}
    for name, cost in found.items():
        for field in ("per_second", "records", "sent_bytes", "behind_s"):
            figures[f"{name}.{field}"] = getattr(cost, field)
        for part in PARTS:
            for field in Used.__slots__:
                figures[f"{name}.{part}.{field}"] = getattr(getattr(cost, part), field)
    return figures


def costs_in(figures: dict[str, float]) -> dict[str, Cost]:
    """Read what `figures_of` wrote."""
    names = dict.fromkeys(name.partition(".")[0] for name in figures)
    return {
        name: Cost(
            figures[f"{name}.per_second"],
            figures[f"{name}.records"],
            figures[f"{name}.sent_bytes"],
            *(
                Used(*(figures[f"{name}.{part}.{field}"] for field in Used.__slots__))
                for part in PARTS
            ),
            figures[f"{name}.behind_s"],
        )
        for name in names
    }
