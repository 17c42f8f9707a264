"""What a rate takes in machines and bytes, reckoned from what a message costs. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bench.cell_model import Cell, records_per_second
from bench.cluster_cost import REST, Cost
from bench.line import Line, fitted
from bench.messages import BATCH_EVENTS

STEPS = ("publish-1", "publish-4", "publish-16", "publish-64")
LEAST_AWAY_S = 1e-4
SERVERS = 3  # of one NATS cluster: each has all of the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What no measurement says. Shares are of what a core, a machine, or a pipe could do at most.

    The brokers of a group have the same store; of a cell that one owns all the others are standbys,
    or only as many as `follows` says. A broker has one core for its event loop and one for its
    courier. `degraded` is what may be in use while one machine is away. A NATS server writes each
    byte of the journal `journal_writes` times: to the stream, and to the log by which the servers
    agree. `snapshots` is by how much they make it longer: at most as much as it has itself.
    """

    rate: float = 1e6
    cores: int = 16
    network_bytes: float = 25e9 / 8
    disk_bytes: float = 1e9
    loop: float = 0.6
    machine: float = 0.6
    pipe: float = 0.5
    degraded: float = 0.85
    brokers: int = 3
    follows: int | None = None
    cells_each: int = 2
    journal_writes: float = 2.0
    snapshots: float = 2.0

    @property
    def standbys(self) -> int:
        """Count those that stand by for one cell."""
        others = self.brokers - 1
        return others if self.follows is None else min(self.follows, others)


@dataclass(frozen=True, slots=True)
class Traffic:
    """How messages come and go, the bytes of each as HTTP, and the load that it was measured as."""

    name: str
    title: str
    kind: str
    events: int
    request_bytes: float
    answer_bytes: float
    webhook_bytes: float = 0.0
    webhook_answer_bytes: float = 0.0


# Bytes counted on one request of each sort; of an endpoint's answer and of an event in a batch of
# webhooks, about.
TRAFFIC = (
    Traffic("publish", "one a request, nobody subscribed", "publish-64", 1, 319, 281),
    Traffic("deliver", "one a request, one a webhook", "deliver", 1, 319, 281, 683, 80),
    Traffic(
        "publish-batch", "100 a request, nobody subscribed", "publish-batch", BATCH_EVENTS, 295, 59
    ),
    Traffic(
        "deliver-batch",
        "100 a request, 100 a webhook",
        "deliver-batch",
        BATCH_EVENTS,
        295,
        59,
        430,
        1,
    ),
)


@dataclass(frozen=True, slots=True)
class Prices:
    """What one message takes of each part: seconds of a core, bytes. `records` of the journal.

    The rest is what a cell takes of a core, owned or followed, while nothing happens.
    """

    owner_s: float
    courier_s: float
    standby_s: float
    leader_s: float
    follower_s: float
    journal_bytes: float
    owner_disk_bytes: float
    standby_disk_bytes: float
    records: float
    owner_rest: float = 0.0
    standby_rest: float = 0.0


BYTES: Mapping[str, Callable[[Cost], float]] = {
    "journal": lambda cost: cost.sent_bytes,
    "owner's disk": lambda cost: cost.owner.disk_bytes,
    "standby's disk": lambda cost: cost.standby.disk_bytes,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Costs by load, and how each part's grow with the records that a message takes."""

    costs: Mapping[str, Cost]
    lines: Mapping[str, Line]

    def rest_s(self, part: str) -> float:
        """Say what part of a core it takes at rest."""
        return float(getattr(self.costs[REST], part).cpu_s)

    def busy_s(self, kind: str, part: str) -> float:
        """Say what a message of a load took beside that."""
        cost = self.costs[kind]
        used: float = getattr(cost, part).cpu_s
        return max(used - self.rest_s(part) / cost.per_second, 0.0)

    def price_s(self, kind: str, part: str, records: float) -> float:
        """Say what it would take if there were so many records to a message."""
        more = records - self.costs[kind].records
        return max(self.busy_s(kind, part) + more * self.lines[part].slope, 0.0)

    def price_bytes(self, kind: str, what: str, records: float) -> float:
        """Say how many bytes it would take if there were so many records to a message."""
        cost = self.costs[kind]
        return max(BYTES[what](cost) + (records - cost.records) * self.lines[what].slope, 0.0)

    def prices(self, kind: str, records: float) -> Prices:
        """Say what a message takes if there are so many records to one."""
        return Prices(
            owner_s=self.price_s(kind, "owner", records),
            courier_s=self.busy_s(kind, "couriers"),
            standby_s=self.price_s(kind, "standby", records),
            leader_s=self.price_s(kind, "leader", records),
            follower_s=self.price_s(kind, "follower", records),
            journal_bytes=self.price_bytes(kind, "journal", records),
            owner_disk_bytes=self.price_bytes(kind, "owner's disk", records),
            standby_disk_bytes=self.price_bytes(kind, "standby's disk", records),
            records=records,
            owner_rest=self.rest_s("owner"),
            standby_rest=self.rest_s("standby"),
        )

    def cell(self, traffic: Traffic) -> Cell:
        """Make the queue that a cell is for such requests."""
        record_s = self.lines["owner"].slope
        cost = self.costs[traffic.kind]
        each_s = max(self.busy_s(traffic.kind, "owner") - cost.records * record_s, 0.0)
        alone_s = 1 / self.costs[STEPS[0]].per_second
        away_s = alone_s - self.lines["owner"].base - record_s
        return Cell(each_s * traffic.events, record_s, max(away_s, LEAST_AWAY_S))


def measured(costs: Mapping[str, Cost]) -> Measured:
    """Fit how costs grow with records, from the loads that differ in nothing else."""
    bare = Measured(costs, {})
    parts = ("owner", "standby", "leader", "follower")
    lines = {
        part: fitted([(costs[kind].records, bare.busy_s(kind, part)) for kind in STEPS])
        for part in parts
    }
    moved = {
        what: fitted([(costs[kind].records, of(costs[kind])) for kind in STEPS])
        for what, of in BYTES.items()
    }
    return Measured(costs, {**lines, **moved})


@dataclass(frozen=True, slots=True)
class Rate:
    """Messages a second, and what ends them."""

    per_second: float
    bound: str


def rate_of_broker(prices: Prices, assumed: Assumed) -> Rate:
    """Say what each broker of a group may own, by what a message takes without its record.

    Records are no bound: the busier a loop is, the more messages share one.
    """
    left, standbys = assumed.brokers - 1, assumed.standbys
    # All cells are somewhere, whoever is away.
    rest = assumed.cells_each * (prices.owner_rest + standbys * prices.standby_rest)
    loop_s = prices.owner_s + standbys * prices.standby_s
    rates = [
        Rate(max(assumed.loop - rest, 0.0) / loop_s, "event loop"),
        Rate(_most(assumed.loop, prices.courier_s), "courier"),
    ]
    if left:
        # Once one is away, the others own more, and follow what each of the rest owns.
        share = assumed.degraded * left / assumed.brokers
        loop_s = prices.owner_s + min(standbys, left - 1) * prices.standby_s
        rates += [
            Rate(_most(max(share - rest, 0.0), loop_s), "event loop, one broker away"),
            Rate(_most(share, prices.courier_s), "courier, one broker away"),
        ]
    return min(rates, key=lambda each: each.per_second)


def _most(share: float, each_s: float) -> float:
    return share / each_s if each_s else math.inf


def rate_of_nats(prices: Prices, assumed: Assumed) -> Rate:
    """Say what one cluster of NATS servers keeps, each server on a machine of its own."""
    cores, reads = assumed.cores, assumed.standbys
    leader, follower = prices.leader_s, prices.follower_s
    read = prices.journal_bytes
    size = read * assumed.snapshots
    # A broker is connected to any server: two times out of three another one leads the stream.
    hop = (SERVERS - 1) / SERVERS
    out = size * (SERVERS - 1 + hop) + read * reads
    rates = [
        Rate(cores * assumed.machine / ((leader + 2 * follower) / SERVERS), "cores"),
        Rate(cores * assumed.degraded / ((leader + follower) / 2), "cores, one server away"),
        Rate(assumed.network_bytes * assumed.pipe / (out / SERVERS), "network"),
        Rate(
            assumed.network_bytes * assumed.degraded / ((size * (1 + 0.5) + read * reads) / 2),
            "network, one server away",
        ),
        Rate(assumed.disk_bytes * assumed.pipe / (size * assumed.journal_writes), "disk"),
    ]
    return min(rates, key=lambda each: each.per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the rate takes. Machines are full at their shares; bytes are of a second, of each.

    `publish_s` is the mean time of a publish.
    """

    prices: Prices
    broker: Rate
    cells: int
    cell_per_second: float
    publish_s: float
    groups: int
    brokers: int
    broker_cores: float
    brokers_a_machine: int
    broker_machines: int
    broker_machine_bound: str
    machine_in_bytes: float
    machine_out_bytes: float
    machine_disk_bytes: float
    nats: Rate
    nats_clusters: int
    nats_cores: float
    journal_bytes: float
    nats_in_bytes: float
    nats_out_bytes: float
    nats_disk_bytes: float
    one_topic: Rate


def cell_beside_others(found: Measured, traffic: Traffic, assumed: Assumed, own: float) -> Cell:
    """Make the queue of one cell of a broker that owns so many messages a second in all.

    Records take what the messages of all its cells, and those that it follows, leave of its loop.
    """
    cell, bare = found.cell(traffic), found.prices(traffic.kind, 0.0)
    busy = own * (bare.owner_s + assumed.standbys * bare.standby_s)
    turn_s = cell.record_s + assumed.standbys * found.lines["standby"].slope
    by_loop_s = turn_s * assumed.cells_each / (1 - busy) if busy < 1 else math.inf
    return replace(cell, away_s=max(cell.away_s, by_loop_s - cell.record_s))


def settled(found: Measured, traffic: Traffic, assumed: Assumed) -> tuple[Rate, Prices]:
    """Find what a broker may own, and what a message takes at that rate, records included."""
    rate = rate_of_broker(found.prices(traffic.kind, 0.0), assumed)
    cell = cell_beside_others(found, traffic, assumed, rate.per_second)
    of_cell = rate.per_second / assumed.cells_each
    share = records_per_second(cell, of_cell / traffic.events) / of_cell
    return rate, found.prices(traffic.kind, share)


def publish_s(cell: Cell, requests: float) -> float:
    """Give the mean time of a publish: its own record, and half of the one under way, if any is."""
    record_s = cell.record_s + cell.away_s
    return cell.request_s + record_s * (1 + records_per_second(cell, requests) * record_s / 2)


def plan(found: Measured, traffic: Traffic, assumed: Assumed) -> Plan:
    """Reckon what the assumed rate takes of such traffic."""
    broker, prices = settled(found, traffic, assumed)
    groups = math.ceil(assumed.rate / (broker.per_second * assumed.brokers))
    own = assumed.rate / (groups * assumed.brokers)
    followed = own * assumed.standbys
    cores = own * (prices.owner_s + prices.courier_s) + followed * prices.standby_s
    written = prices.journal_bytes * assumed.snapshots
    in_bytes = own * (traffic.request_bytes + traffic.webhook_answer_bytes)
    in_bytes += followed * prices.journal_bytes
    out_bytes = own * (traffic.answer_bytes + traffic.webhook_bytes + written)
    # A snapshot is a copy beside the file before it is sent.
    disk_bytes = own * (prices.owner_disk_bytes + written - prices.journal_bytes)
    disk_bytes += followed * prices.standby_disk_bytes
    fits = {
        "cores": assumed.cores * assumed.machine / cores,
        "network": assumed.network_bytes * assumed.pipe / max(in_bytes, out_bytes),
        "disk": assumed.disk_bytes * assumed.pipe / disk_bytes,
    }
    bound = min(fits, key=lambda each: fits[each])
    each = max(math.floor(fits[bound]), 1)
    # A group's brokers are on machines of their own.
    machines = max(math.ceil(groups * assumed.brokers / each), assumed.brokers)
    nats = rate_of_nats(prices, assumed)
    clusters = math.ceil(assumed.rate / nats.per_second)
    kept = assumed.rate / clusters
    hop = (SERVERS - 1) / SERVERS
    journal, read = kept * written, kept * prices.journal_bytes
    alone = replace(assumed, brokers=1, cells_each=1)
    return Plan(
        prices=prices,
        broker=broker,
        cells=groups * assumed.brokers * assumed.cells_each,
        cell_per_second=own / assumed.cells_each,
        publish_s=publish_s(
            cell_beside_others(found, traffic, assumed, own),
            own / assumed.cells_each / traffic.events,
        ),
        groups=groups,
        brokers=groups * assumed.brokers,
        broker_cores=cores,
        brokers_a_machine=each,
        broker_machines=machines,
        broker_machine_bound=bound,
        machine_in_bytes=in_bytes * each,
        machine_out_bytes=out_bytes * each,
        machine_disk_bytes=disk_bytes * each,
        nats=nats,
        nats_clusters=clusters,
        nats_cores=kept * (prices.leader_s + 2 * prices.follower_s) / SERVERS,
        journal_bytes=assumed.rate * written,
        nats_in_bytes=journal * (1 + hop / SERVERS),
        nats_out_bytes=(journal * (SERVERS - 1 + hop) + read * assumed.standbys) / SERVERS,
        nats_disk_bytes=journal * assumed.journal_writes,
        one_topic=settled(found, traffic, alone)[0],
    )


def rate_of_group(found: Measured, traffic: Traffic, assumed: Assumed) -> float:
    """Say what all brokers of one group take together."""
    rate, _ = settled(found, traffic, assumed)
    return rate.per_second * assumed.brokers
