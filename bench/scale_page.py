"""The plan for a million messages a second: `python -m bench.scale_page`, from the checkout's root.

Prints the tables of docs/scale.md from the costs in bench/results/cluster.json, which
`python -m bench --only cluster` measures, and draws the page's charts.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from bench.cell_model import (
    mean_latency_s,
    records_per_second,
    simulate_closed,
    simulate_open,
    utilisation,
)
from bench.cluster_cost import costs_in, finding_of
from bench.drawing import draw_all
from bench.finding import Chart, Curve
from bench.scale_plan import (
    SERVERS,
    STEPS,
    TRAFFIC,
    Assumed,
    Measured,
    Plan,
    Traffic,
    measured,
    plan,
    rate_of_group,
)
from bench.server_process import ROOT
from bench.table import Table

RESULTS = ROOT / "bench" / "results" / "cluster.json"
IMAGES = ROOT / "docs" / "images"
GROUPS = (2, 3, 5, 8, 16, 32)
CELL_RATES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.98)
REQUESTS = 20_000
US, MS, MB = 1e6, 1e3, 1e6
SINGLE, BATCHED = TRAFFIC[1], TRAFFIC[3]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, draw the charts."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale_page", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS, help="a results.json")
    parser.add_argument("--charts", type=Path, metavar="FOLDER", help="draw them there")
    options = parser.parse_args(arguments)
    found = read(options.results)
    assumed = Assumed()
    print("\n\n".join(table.to_markdown() for table in tables(found, assumed)))
    if options.charts is not None:
        draw_all(charts(found, assumed), options.charts)
    return 0


def read(path: Path) -> Measured:
    """Read what the bench measured."""
    document = msgspec.json.decode(path.read_bytes())
    return measured(costs_in(document["outcome"]["findings"]["cluster"]["figures"]))


def tables(found: Measured, assumed: Assumed) -> list[Table]:
    """Lay everything out, in the order of the page."""
    plans = [plan(found, traffic, assumed) for traffic in TRAFFIC]
    return [
        *finding_of(dict(found.costs)).tables,
        prices_table(plans),
        broker_table(plans),
        nats_table(plans),
        bytes_table(plans),
        group_table(found, assumed),
        latency_table(found, assumed),
        check_table(found),
    ]


def prices_table(plans: Sequence[Plan]) -> Table:
    """Say what a message takes at the planned rates."""
    head = (
        "CPU us a message",
        "a record",
        "owner",
        "courier",
        "each standby",
        "leader",
        "follower",
    )
    rows = [
        (
            traffic.title,
            f"{1 / each.prices.records:,.0f}",
            *(
                f"{cost * US:.1f}"
                for cost in (
                    each.prices.owner_s,
                    each.prices.courier_s,
                    each.prices.standby_s,
                    each.prices.leader_s,
                    each.prices.follower_s,
                )
            ),
        )
        for traffic, each in zip(TRAFFIC, plans, strict=True)
    ]
    return Table(head, tuple(rows))


def broker_table(plans: Sequence[Plan]) -> Table:
    """Say how many brokers it takes."""
    head = (
        "brokers",
        "one may own, messages/s",
        "which ends it",
        "groups of three",
        "brokers",
        "cells",
        "machines",
        "a publish, ms",
        "the largest topic, messages/s",
    )
    rows = [
        (
            traffic.title,
            f"{each.broker.per_second:,.0f}",
            each.broker.bound,
            f"{each.groups:,}",
            f"{each.brokers:,}",
            f"{each.cells:,}",
            f"{each.broker_machines:,}",
            f"{each.publish_s * MS:.0f}",
            f"{each.one_topic.per_second:,.0f}",
        )
        for traffic, each in zip(TRAFFIC, plans, strict=True)
    ]
    return Table(head, tuple(rows))


def nats_table(plans: Sequence[Plan]) -> Table:
    """Say how many NATS servers it takes."""
    head = (
        "NATS servers",
        "three keep, messages/s",
        "which ends it",
        "clusters of three",
        "servers",
        "cores busy of each",
        "written to it all, MB/s",
    )
    rows = [
        (
            traffic.title,
            f"{each.nats.per_second:,.0f}",
            each.nats.bound,
            f"{each.nats_clusters}",
            f"{each.nats_clusters * SERVERS}",
            f"{each.nats_cores:.1f}",
            f"{each.journal_bytes / MB:,.0f}",
        )
        for traffic, each in zip(TRAFFIC, plans, strict=True)
    ]
    return Table(head, tuple(rows))


def bytes_table(plans: Sequence[Plan]) -> Table:
    """Say what each machine moves."""
    head = (
        "MB/s of each machine",
        "broker: in",
        "out",
        "disk",
        "brokers on it",
        "which ends it",
        "NATS: in",
        "out",
        "disk",
    )
    rows = [
        (
            traffic.title,
            f"{each.machine_in_bytes / MB:,.0f}",
            f"{each.machine_out_bytes / MB:,.0f}",
            f"{each.machine_disk_bytes / MB:,.0f}",
            f"{each.brokers_a_machine}",
            each.broker_machine_bound,
            f"{each.nats_in_bytes / MB:,.0f}",
            f"{each.nats_out_bytes / MB:,.0f}",
            f"{each.nats_disk_bytes / MB:,.0f}",
        )
        for traffic, each in zip(TRAFFIC, plans, strict=True)
    ]
    return Table(head, tuple(rows))


def group_table(found: Measured, assumed: Assumed) -> Table:
    """Say what brokers of one store take together, the more there are."""
    head = ("messages/s of one store", *(f"{brokers} brokers" for brokers in GROUPS))
    rows = [
        (
            f"{traffic.title}; {who}",
            *(
                f"{rate:,.0f}"
                for rate in _group_rates(found, traffic, replace(assumed, follows=follows), GROUPS)
            ),
        )
        for traffic in (SINGLE, BATCHED)
        for who, follows in (("all stand by", None), ("two stand by", 2))
    ]
    return Table(head, tuple(rows))


def latency_table(found: Measured, assumed: Assumed) -> Table:
    """Say how long a publish takes, by the part of its cell's loop that is busy."""
    head = (
        "to 201, ms",
        "messages/s",
        "a record",
        "loop busy",
        "mean, formula",
        "mean, simulated",
        "p50",
        "p99",
    )
    rows = []
    for traffic in (TRAFFIC[0], TRAFFIC[2]):
        cell = found.cell(traffic)
        for share in CELL_RATES:
            rate = cell.most_per_second * share
            seen = simulate_open(cell, rate, REQUESTS)
            rows.append(
                (
                    traffic.title,
                    f"{rate * traffic.events:,.0f}",
                    f"{rate * traffic.events / records_per_second(cell, rate):,.0f}",
                    f"{utilisation(cell, rate):.0%}",
                    f"{mean_latency_s(cell, rate) * MS:.1f}",
                    f"{seen.mean_s * MS:.1f}",
                    f"{seen.quantile_s(0.5) * MS:.1f}",
                    f"{seen.quantile_s(0.99) * MS:.1f}",
                )
            )
    return Table(head, tuple(rows))


def check_table(found: Measured) -> Table:
    """Hold the simulation against what was measured."""
    cell = found.cell(TRAFFIC[0])
    rows = []
    for kind in STEPS:
        clients = int(kind.rpartition("-")[2])
        seen = simulate_closed(cell, clients, REQUESTS)
        cost = found.costs[kind]
        rows.append(
            (
                f"{clients}",
                f"{cost.per_second:,.0f}",
                f"{seen.per_second:,.0f}",
                f"{1 / cost.records:.1f}",
                f"{len(seen.latencies_s) / seen.records:.1f}",
            )
        )
    head = ("connections", "messages/s: measured", "simulated", "a record: measured", "simulated")
    return Table(head, tuple(rows))


def charts(found: Measured, assumed: Assumed) -> list[Chart]:
    """Draw how a store's rate ends, and how latency does."""
    brokers = (*range(2, 9), 12, *GROUPS[-2:])
    curves = tuple(
        Curve(
            f"{traffic.title}: {who}",
            tuple(map(float, brokers)),
            _group_rates(found, traffic, replace(assumed, follows=follows), brokers),
        )
        for traffic in (SINGLE, BATCHED)
        for who, follows in (("all stand by", None), ("two stand by", 2))
    )
    return [
        Chart(
            name="scale-brokers",
            title="Brokers of one store (reckoned)",
            x_label="brokers",
            y_label="messages a second, published and delivered",
            curves=curves,
            y_log=True,
        ),
        _latency_chart(found),
    ]


def _group_rates(
    found: Measured, traffic: Traffic, assumed: Assumed, sizes: Sequence[int]
) -> tuple[float, ...]:
    return tuple(rate_of_group(found, traffic, replace(assumed, brokers=n)) for n in sizes)


def _latency_chart(found: Measured) -> Chart:
    cell = found.cell(TRAFFIC[0])
    rates = tuple(cell.most_per_second * share for share in CELL_RATES)
    seen = [simulate_open(cell, rate, REQUESTS) for rate in rates]
    return Chart(
        name="scale-latency",
        title="One cell, one message a request (simulated)",
        x_label="messages a second",
        y_label="milliseconds to 201",
        curves=(
            Curve("p50", rates, tuple(each.quantile_s(0.5) * MS for each in seen)),
            Curve("p99", rates, tuple(each.quantile_s(0.99) * MS for each in seen)),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
