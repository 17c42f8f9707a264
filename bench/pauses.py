"""The longest pause in a longer run at a steady rate, with checkpoints and retention at work."""

from itertools import pairwise
from pathlib import Path

from bench.finding import Finding, Say
from bench.latency import KEPT_S, WARM_UP_S, latency_of
from bench.result import CountsDiffer, Latency
from bench.scale import Scale
from bench.schedule import NS_PER_S, Publisher, Schedule
from bench.servers import running_broker
from bench.stopwatch import running_stopwatch
from bench.table import Table
from bench.topic import Subscription, Topic

RATE = 500
NS_PER_MS = 1e6


def measure_pauses(folder: Path, scale: Scale, say: Say) -> Finding:
    """Publish by the clock, and look for the message that came latest."""
    schedule = Schedule(count=(scale.pause_s + WARM_UP_S) * RATE, rate=RATE)
    with running_broker(folder) as server, running_stopwatch(folder) as stopwatch:
        topic = Topic.created(server.process, retention={"max_age_s": KEPT_S})
        subscription = Subscription.created(topic, stopwatch, {"ordering": "none"})
        say(f"{schedule.count:,} messages in {scale.pause_s + WARM_UP_S} s")
        times = Publisher(server.process.port, topic.messages_path).run(schedule)
        subscription.drain()
        subscription.deliveries(schedule.count)
        arrivals_ns = stopwatch.arrivals_ns()
        first = int(server.process.get(topic.path)["first_sequence"])
    if first == 1:
        raise CountsDiffer("retention removed nothing, so its pauses were not measured")
    latency = latency_of(times, arrivals_ns, first=WARM_UP_S * RATE)
    counted = sorted(arrivals_ns.values())[WARM_UP_S * RATE :]
    return finding_of(latency, longest_gap_ns(counted), len(counted), first - 1)


def longest_gap_ns(moments: list[int]) -> int:
    """Find the longest time between two arrivals, which are in order."""
    return max(after - before for before, after in pairwise(moments))


def finding_of(latency: Latency, gap_ns: int, counted: int, removed: int) -> Finding:
    """Word what was measured."""
    rows = (("to webhook", latency.to_webhook), ("to 201", latency.to_answer))
    table = Table(
        ("from due, ms", "p50", "p99", "longest"),
        tuple(
            (label, f"{spread.p50_ms:.2f}", f"{spread.p99_ms:.2f}", f"{spread.max_ms:.2f}")
            for label, spread in (*rows, ("sent late by the loader", latency.to_send))
        ),
    )
    return Finding(
        sentences=(
            f"In {counted / RATE:.0f} s, {counted:,} messages came and {removed:,} were removed."
            f" The longest pause between two arrivals, which should be {1000 / RATE:.0f} ms apart,"
            f" was {gap_ns / NS_PER_MS:.1f} ms; the latest message came"
            f" {latency.to_webhook.max_ms:.1f} ms after it was due.",
        ),
        tables=(table,),
        figures={
            "longest_gap_s": gap_ns / NS_PER_S,
            "latest_s": latency.to_webhook.max_ms / 1000,
        },
    )
