"""How rates go with the brokers that share the work, and the cells that it is split into."""

from functools import partial
from pathlib import Path

from bench.clusters import Cluster, started_cluster
from bench.crowd import create_topics, subscribe_all
from bench.end_to_end import SINGLE
from bench.finding import Finding, LeftOut, Say
from bench.loader import Load
from bench.messages import JSON, order
from bench.nginx import running_nginx
from bench.passage import Passage
from bench.publishing import publish_to
from bench.repeats import Median, repeated
from bench.rivals.nats_jetstream import RIVAL as NATS
from bench.scale import Scale
from bench.table import Table

CONNECTIONS = 66  # to all brokers together
TOPICS = 24  # over all cells
SERVERS = (1, 3)
SHARES = ((1, 1), (1, 6), (3, 6))  # brokers, cells


def measure_sharing(folder: Path, scale: Scale, say: Say) -> Finding:
    """Publish, and have it delivered, to topics in all cells, at all brokers at once."""
    if (why := NATS.missing()) is not None:
        raise LeftOut(why)
    rows, figures = [], {}
    for servers in SERVERS:
        for brokers, cells in SHARES:
            name = f"{servers} NATS, {brokers} brokers, {cells} cells"
            say(name)
            place = folder / f"{servers}-{brokers}-{cells}"
            place.mkdir()
            taken, passed = _measure(place, servers, brokers, cells, scale)
            rows.append((str(servers), str(brokers), str(cells), *_cells(taken), *_cells(passed)))
            figures |= {f"{name}: publish": taken.per_second, f"{name}: pass": passed.per_second}
    head = ("NATS servers", "brokers", "cells")
    each = ("publishes/s", "CPU us each", "publish to webhook/s", "CPU us each")
    return Finding(tables=(Table((*head, *each), tuple(rows)),), figures=figures)


def _measure(
    folder: Path, servers: int, brokers: int, cells: int, scale: Scale
) -> tuple[Median, Median]:
    with (
        running_nginx(folder) as nginx,
        started_cluster(folder, servers, brokers, cells) as cluster,
    ):
        whole = cluster.whole
        quiet = create_topics(whole.process, [f"quiet-{number + 1}" for number in range(TOPICS)])
        busy = create_topics(whole.process, [f"busy-{number + 1}" for number in range(TOPICS)])
        subscribe_all(busy, 1, {"endpoint": nginx.endpoint} | SINGLE)
        load = partial(_load, cluster, folder, scale.step_s)
        taken = repeated(partial(publish_to, whole, quiet, load("quiet")), scale.steps)
        passage = Passage(whole, busy, nginx)
        return taken, repeated(partial(passage.measure, load("busy")), scale.steps)


def _load(cluster: Cluster, folder: Path, seconds: float, topics: str) -> Load:
    body = folder / "message.json"
    body.write_bytes(order())
    urls = [f"{each.process.url}/v1/topics/{topics}-{{n}}/messages" for each in cluster.brokers]
    connections = CONNECTIONS // len(urls)
    return Load(urls[0], JSON, body, connections, seconds, TOPICS, others=tuple(urls[1:]))


def _cells(rate: Median) -> tuple[str, str]:
    return f"{rate.per_second:,.0f}", f"{rate.cpu_us:.0f}"
