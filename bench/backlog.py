"""What a backlog costs: while it stands, at a start, and while it drains.

The endpoint of one subscription refuses connections, so that all its messages wait. Then the broker
is stopped, the endpoint comes up, and the broker is started again. Each rate is taken in turn with
that of another broker, of which nobody is owed anything.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench.deliveries import STUCK_S
from bench.end_to_end import SINGLE, end_to_end_on
from bench.fill import fill
from bench.finding import Chart, Curve, Finding, LeftOut, Say
from bench.messages import BATCH_EVENTS
from bench.nginx import Nginx, running_nginx
from bench.process_tree import Memory
from bench.publishing import load_of, publish_to
from bench.refusing import refusing_port
from bench.repeats import Median, in_turn
from bench.result import CountsDiffer, Result
from bench.scale import Scale
from bench.server_process import HOST
from bench.servers import ServerUnderTest, running_broker
from bench.stopwatch import Stopwatch, running_stopwatch
from bench.table import Table
from bench.topic import Subscription, Topic, final_count

CONNECTIONS = 64
# The rates are taken at nothing, and at these parts of the whole.
PARTS = (0.1, 0.3, 1.0)
# A message of 200 bytes with its id and its indexes, the log before a checkpoint, some room.
BYTES_EACH = 900
SPARE_BYTES = 2_000_000_000
SAMPLE_S = 0.1
SLICES = 10
WAITING = "waiting"
MB = 1e6


@dataclass(frozen=True, slots=True)
class Standing:
    """Rates while a backlog stands: publishing to its topic, and end to end on another one.

    Those of a broker without one are taken at the same time.
    """

    backlog: int
    publish: Median
    publish_empty: Median
    end_to_end: Median
    end_to_end_empty: Median
    memory: Memory

    @property
    def publish_ratio(self) -> float:
        """Compare publishing with that of the empty broker."""
        return self.publish.per_second / self.publish_empty.per_second

    @property
    def end_to_end_ratio(self) -> float:
        """Compare end to end with that of the empty broker."""
        return self.end_to_end.per_second / self.end_to_end_empty.per_second


@dataclass(frozen=True, slots=True)
class Measured:
    """A broker whose rates are taken."""

    publish: Callable[[], Result]
    end_to_end: Callable[[], Result]


@dataclass(frozen=True, slots=True)
class Drained:
    """A start with a backlog. Times run from the moment the broker's process is started.

    `slices` are deliveries a second in ten equal parts of the backlog.
    """

    messages: int
    ready_s: float
    first_delivery_s: float
    slices: tuple[float, ...]
    peak: Memory


def measure_backlog(folder: Path, scale: Scale, say: Say) -> Finding:
    """Build up a backlog, with rates at several sizes, start with it, and drain it."""
    check_room(folder, scale.backlog)
    with refusing_port() as port:
        standing = _stand(folder, scale, port, say)
    with running_stopwatch(folder, port) as stopwatch:
        drained = _drain(folder, stopwatch, say)
    return finding_of(standing, drained)


def check_room(folder: Path, messages: int) -> None:
    """Raise LeftOut if the disk has no room for so many messages."""
    need, free = messages * BYTES_EACH + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < need:
        raise LeftOut(
            f"A backlog of {messages:,} messages needs {need / 1e9:.1f} GB of disk, and"
            f" {free / 1e9:.1f} GB are free; make room, or say --backlog N for a smaller one."
        )


def _stand(folder: Path, scale: Scale, port: int, say: Say) -> list[Standing]:
    other = folder / "empty"
    other.mkdir()
    with (
        running_broker(folder) as server,
        running_nginx(folder) as nginx,
        running_broker(other) as empty,
        running_nginx(other) as nginx_of_empty,
    ):
        topic = Topic.created(server.process, "backlog")
        batches = SINGLE | {"format": "batch", "max_batch": BATCH_EVENTS}
        topic.subscribe(WAITING, batches | {"endpoint": f"http://{HOST}:{port}/webhook"})
        measured = (
            _measured(folder, server, topic, nginx, scale),
            _measured(other, empty, Topic.created(empty.process), nginx_of_empty, scale),
        )

        def standing() -> Standing:
            backlog = topic.count()
            say(f"rates at {backlog:,}")
            return Standing(
                backlog,
                *in_turn([each.publish for each in measured], scale.turns),
                *in_turn([each.end_to_end for each in measured], scale.turns),
                server.memory(),
            )

        found, filled = [standing()], 0
        for part in PARTS:
            missing = round(scale.backlog * part) - topic.count()
            if missing > 0:
                fill(topic, missing, say, first=filled)
                filled += missing
                found.append(standing())
        stored, backlog = final_count([topic]), topic.subscription(WAITING)["backlog"]
        if backlog != stored:
            raise CountsDiffer(f"{stored:,} messages are stored, the backlog is {backlog:,}")
    return found


def _measured(
    folder: Path, server: ServerUnderTest, topic: Topic, nginx: Nginx, scale: Scale
) -> Measured:
    beside = Topic.created(server.process, "beside")
    load = load_of(topic.messages_url, folder, scale.step_s, CONNECTIONS)
    return Measured(
        partial(publish_to, server, [topic], load),
        end_to_end_on(beside, server, nginx, replace(load, url=beside.messages_url)),
    )


def _drain(folder: Path, stopwatch: Stopwatch, say: Say) -> Drained:
    started_at = time.time()
    with running_broker(folder) as server:
        ready_at = time.time()
        topic = Topic(server.process, "backlog")
        total = topic.count()
        say("draining")
        samples, peak = _watch(server, stopwatch, total, say)
        Subscription(topic, stopwatch, WAITING).drain()
        got = stopwatch.deliveries()
        if got.received != total:
            raise CountsDiffer(f"{total:,} messages were owed, the endpoint got {got}")
    return Drained(
        messages=total,
        ready_s=ready_at - started_at,
        first_delivery_s=got.first_at - started_at,
        slices=slice_rates([(got.first_at, 0), *samples], SLICES),
        peak=peak,
    )


def _watch(
    server: ServerUnderTest, stopwatch: Stopwatch, total: int, say: Say
) -> tuple[list[tuple[float, int]], Memory]:
    """Take the time and the count until all has come, and the most memory used meanwhile."""
    samples: list[tuple[float, int]] = []
    peak, told = server.memory(), 0
    seen_at = time.time()
    while not samples or samples[-1][1] < total:
        got = stopwatch.deliveries()
        if not samples or got.received > samples[-1][1]:
            samples.append((got.last_at, got.received))
            seen_at = time.time()
        elif time.time() - seen_at > STUCK_S:
            raise CountsDiffer(f"{total:,} messages were owed, the endpoint got {got}")
        peak = max(peak, server.memory(), key=lambda memory: memory.pss_bytes)
        if got.received - told >= total / 10:
            told = got.received
            say(f"{told:,} of {total:,} delivered")
        time.sleep(SAMPLE_S)
    return [sample for sample in samples if sample[1]], peak


def slice_rates(samples: Sequence[tuple[float, int]], slices: int) -> tuple[float, ...]:
    """Cut a count that rises from 0 over time into equal parts; give the rate in each.

    Between two samples the count is taken to rise evenly.
    """
    total = samples[-1][1]
    moments = [_moment(samples, total * part / slices) for part in range(slices + 1)]
    return tuple(total / slices / (end - start) for start, end in pairwise(moments))


def _moment(samples: Sequence[tuple[float, int]], count: float) -> float:
    for (start_at, before), (end_at, after) in pairwise(samples):
        if count <= after and after > before:
            return start_at + (end_at - start_at) * (count - before) / (after - before)
    return samples[-1][0]


def second_half_to_first(rates: Sequence[float]) -> float:
    """Compare the rates of two halves that consist of equal parts: 1 is no slope."""
    middle = len(rates) // 2
    first, second = rates[:middle], rates[middle:]
    return sum(1 / rate for rate in first) / sum(1 / rate for rate in second)


def _shown(memory: Memory) -> str:
    return f"{memory.rss_bytes / MB:.0f} ({memory.pss_bytes / MB:.0f})"


def finding_of(standing: Sequence[Standing], drained: Drained) -> Finding:
    """Word what was measured."""
    rates = Table(
        (
            "backlog",
            "publish/s",
            "x empty",
            "CPU s/1,000",
            "end to end/s",
            "x empty",
            "CPU s/1,000",
            "RSS (PSS) MB",
        ),
        tuple(
            (
                f"{each.backlog:,}",
                f"{each.publish.per_second:,.0f}",
                f"{each.publish_ratio:.2f}",
                f"{each.publish.cpu_us / 1000:.3f}",
                f"{each.end_to_end.per_second:,.0f}",
                f"{each.end_to_end_ratio:.2f}",
                f"{each.end_to_end.cpu_us / 1000:.3f}",
                _shown(each.memory),
            )
            for each in standing
        ),
    )
    slices = Table(
        ("drained", *(f"{part * 10} %" for part in range(1, SLICES + 1))),
        (("deliveries/s", *(f"{rate:,.0f}" for rate in drained.slices)),),
    )
    slope = second_half_to_first(drained.slices)
    sizes = tuple(float(each.backlog) for each in standing)
    return Finding(
        sentences=(
            f"Started with {drained.messages:,} messages owed, the broker was ready after"
            f" {drained.ready_s:.2f} s, and the first of them arrived after"
            f" {drained.first_delivery_s:.2f} s.",
            f"While it drained, resident memory was {_shown(drained.peak)} MB at most;"
            f" its second half went at {slope:.2f} times the rate of the first half.",
        ),
        tables=(rates, slices),
        charts=(
            Chart(
                name="backlog",
                title="Rates while a backlog stands",
                x_label="messages waiting in the log",
                y_label="messages a second",
                curves=(
                    Curve(
                        "publish to the same topic",
                        sizes,
                        tuple(each.publish.per_second for each in standing),
                    ),
                    Curve(
                        "end to end on another topic",
                        sizes,
                        tuple(each.end_to_end.per_second for each in standing),
                    ),
                ),
            ),
            Chart(
                name="draining",
                title=f"Draining {drained.messages:,} messages",
                x_label="% of the backlog delivered",
                y_label="deliveries a second",
                curves=(Curve("100 a webhook", tuple(range(10, 101, 10)), drained.slices),),
            ),
        ),
        figures={
            "ready_s": drained.ready_s,
            "first_delivery_s": drained.first_delivery_s,
            "publish_ratio": standing[-1].publish_ratio,
            "end_to_end_ratio": standing[-1].end_to_end_ratio,
            "second_half_to_first": slope,
            "pss_bytes": float(max(each.memory.pss_bytes for each in standing)),
            "peak_pss_bytes": float(drained.peak.pss_bytes),
        },
    )
