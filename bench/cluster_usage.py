"""What each part of a cluster has used so far, and what it used between two looks."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from bench.clusters import Cluster, NatsProcess
from bench.process_tree import process_tree
from bench.server_process import ServerProcess

COURIER = "broker.dispatch.courier"
CLIENT = "broker"
SNAPSHOTS = "OBJ_"


@dataclass(frozen=True, slots=True)
class Used:
    """Processor seconds, bytes handed to the disk, bytes from the network and to it.

    Only the NATS servers count what goes over the network.
    """

    cpu_s: float = 0.0
    disk_bytes: float = 0.0
    in_bytes: float = 0.0
    out_bytes: float = 0.0

    def __sub__(self, before: "Used") -> "Used":
        return Used(
            self.cpu_s - before.cpu_s,
            self.disk_bytes - before.disk_bytes,
            self.in_bytes - before.in_bytes,
            self.out_bytes - before.out_bytes,
        )

    def __add__(self, other: "Used") -> "Used":
        return Used(
            self.cpu_s + other.cpu_s,
            self.disk_bytes + other.disk_bytes,
            self.in_bytes + other.in_bytes,
            self.out_bytes + other.out_bytes,
        )

    def shared(self, by: float) -> "Used":
        """Give each of so many the same."""
        return Used(self.cpu_s / by, self.disk_bytes / by, self.in_bytes / by, self.out_bytes / by)


@dataclass(frozen=True, slots=True)
class Parts:
    """The owner without its couriers, these, the standby, each NATS server in its order.

    `records` counts what stands in the journal, `sent_bytes` what the brokers sent for it.
    """

    owner: Used
    couriers: Used
    standby: Used
    nats: tuple[Used, ...]
    records: int
    sent_bytes: int

    def __sub__(self, before: "Parts") -> "Parts":
        return Parts(
            self.owner - before.owner,
            self.couriers - before.couriers,
            self.standby - before.standby,
            tuple(now - then for now, then in zip(self.nats, before.nats, strict=True)),
            self.records - before.records,
            self.sent_bytes - before.sent_bytes,
        )


def look_at(cluster: Cluster) -> Parts:
    """Look at all parts of a cluster."""
    tree = process_tree(cluster.owner.process.pid)
    couriers = [each for each in tree if COURIER in each.cmdline()]
    return Parts(
        owner=_sum(each for each in tree if each not in couriers),
        couriers=_sum(couriers),
        standby=_sum(process_tree(cluster.standby.process.pid)),
        nats=tuple(map(_nats, cluster.nats)),
        records=max(_stream(each.monitor)["state"]["last_seq"] for each in cluster.nats),
        sent_bytes=sum(_from_brokers(each.monitor) for each in cluster.nats),
    )


def leader_of(cluster: Cluster) -> int:
    """Say which of the NATS servers leads the journal."""
    led_by = _stream(cluster.nats[0].monitor).get("cluster", {}).get("leader")
    names = [each.monitor.get("/varz")["server_name"] for each in cluster.nats]
    return names.index(led_by) if led_by in names else 0


def _sum(processes: Iterable[psutil.Process]) -> Used:
    total = Used()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times, disk = process.cpu_times(), process.io_counters()
            total += Used(times.user + times.system, disk.write_bytes)
    return total


def _nats(server: NatsProcess) -> Used:
    told = server.monitor.get("/varz")
    network = Used(in_bytes=told["in_bytes"], out_bytes=told["out_bytes"])
    return _sum([psutil.Process(server.process.pid)]) + network


def _stream(monitor: ServerProcess) -> dict[str, dict[str, int | str]]:
    """Return what a server tells of the journal's stream."""
    accounts = monitor.get("/jsz?streams=true").get("account_details", [])
    streams: Sequence[dict[str, dict[str, int | str]]] = [
        each
        for account in accounts
        for each in account.get("stream_detail", [])
        if not str(each["name"]).startswith(SNAPSHOTS)
    ]
    return streams[0]


def _from_brokers(monitor: ServerProcess) -> int:
    connections = monitor.get("/connz?limit=1000")["connections"]
    return sum(each["in_bytes"] for each in connections if each.get("name") == CLIENT)
