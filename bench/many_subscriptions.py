"""What subscriptions cost that have nothing to do, and what a thousand busy ones get done."""

import time
from functools import partial
from pathlib import Path

from bench.crowd import create_topics, subscribe_all
from bench.end_to_end import SINGLE
from bench.finding import Finding, Say
from bench.idle import started_idle
from bench.nginx import running_nginx
from bench.passage import Passage
from bench.publishing import load_of
from bench.repeats import repeated
from bench.scale import Scale
from bench.servers import running_broker
from bench.table import Table
from bench.topic import Topic

EACH = 10  # subscriptions a topic
BUSY_PART = 10  # one topic in so many is published to
CONNECTIONS = 64
REST_S = 60  # at rest, the broker looks once a minute for what is too old
MB = 1e6


def measure_many_subscriptions(folder: Path, scale: Scale, say: Say) -> Finding:
    """Create them, start with them, rest with them, keep a tenth of them busy."""
    topics = max(scale.subscriptions // EACH, BUSY_PART)
    busy = topics // BUSY_PART
    with running_nginx(folder) as nginx:
        options = {"endpoint": nginx.endpoint} | SINGLE
        with running_broker(folder) as server:
            alone = Topic.created(server.process, "alone")
            subscribe_all([alone], EACH, options)
            say("rate of ten subscriptions alone")
            passage = Passage(server, [alone], nginx, fan_out=EACH)
            load = load_of(alone.messages_url, folder, 1, CONNECTIONS)
            rate_alone = repeated(partial(passage.measure, load), scale.steps)
        with started_idle(folder, REST_S) as (server, few):
            say(f"creating {topics * EACH:,} subscriptions")
            started_at = time.monotonic()
            names = [f"many-{number}" for number in range(1, topics + 1)]
            created = subscribe_all(create_topics(server.process, names), EACH, options)
            created_s = time.monotonic() - started_at
        say("starting with them")
        with started_idle(folder, REST_S) as (server, many):
            say(f"rate of {busy * EACH:,} busy ones")
            chosen = [Topic(server.process, name) for name in names[:busy]]
            passage = Passage(server, chosen, nginx, fan_out=EACH)
            load = load_of(
                f"{server.process.url}/v1/topics/many-{{n}}/messages", folder, 1, CONNECTIONS, busy
            )
            rate_busy = repeated(partial(passage.measure, load), scale.steps)

    rows = (
        ("10", few, rate_alone, EACH),
        (f"{created + EACH:,}", many, rate_busy, busy * EACH),
    )
    table = Table(
        (
            "subscriptions",
            "start s",
            "CPU at rest %",
            "RSS MB",
            "busy",
            "deliveries/s",
            "CPU us each",
        ),
        tuple(
            (
                label,
                f"{idle.start_s:.2f}",
                f"{idle.cpu_share * 100:.1f}",
                f"{idle.memory.rss_bytes / MB:.0f}",
                f"{busy_count:,}",
                f"{rate.per_second:,.0f}",
                f"{rate.cpu_us:.0f}",
            )
            for label, idle, rate, busy_count in rows
        ),
    )
    each_kb = (many.memory.pss_bytes - few.memory.pss_bytes) / created / 1000
    each_ms = (many.start_s - few.start_s) / created * 1000
    return Finding(
        sentences=(
            f"{created:,} subscriptions on {topics:,} topics were created in {created_s:.1f} s;"
            f" each takes {each_kb:.1f} kB of memory and {each_ms:.2f} ms of a start.",
            f"With {busy * EACH:,} of them busy, deliveries go at"
            f" {rate_busy.per_second / rate_alone.per_second:.2f} times the rate of ten alone.",
        ),
        tables=(table,),
        figures={
            "created_per_second": created / created_s,
            "start_s": many.start_s,
            "rest_cpu_share": many.cpu_share,
            "rss_bytes": float(many.memory.rss_bytes),
            "busy_ratio": rate_busy.per_second / rate_alone.per_second,
        },
    )
