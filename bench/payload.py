"""What a message costs by its size."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.end_to_end import SINGLE
from bench.finding import Chart, Curve, Finding, Say
from bench.messages import padded
from bench.nginx import running_nginx
from bench.passage import Passage
from bench.publishing import load_of
from bench.repeats import Median, repeated
from bench.scale import Scale
from bench.servers import running_broker
from bench.table import Table
from bench.topic import Subscription, Topic

SIZES = (100, 1_024, 4_096, 16_384, 65_536, 262_144)
CONNECTIONS = 64
MB = 1e6


@dataclass(frozen=True, slots=True)
class Sized:
    """Messages of one size, end to end."""

    size: int
    median: Median

    @property
    def mb_per_second(self) -> float:
        """Give the rate of payload, in at one end and out at the other."""
        return self.median.per_second * self.size / MB


def measure_payload(folder: Path, scale: Scale, say: Say) -> Finding:
    """Send messages of one size after the other from publish to webhook."""
    found = []
    body = folder / "sized.json"
    with running_broker(folder) as server, running_nginx(folder) as nginx:
        for size in SIZES:
            say(f"{size:,} bytes")
            body.write_bytes(padded(size))
            topic = Topic.created(server.process, f"bytes-{size}")
            subscription = Subscription.created(topic, nginx, SINGLE, query=f"?n={size}")
            passage = Passage(server, [topic], nginx, watched=[subscription])
            load = replace(
                load_of(topic.messages_url, folder, scale.step_s, CONNECTIONS), body=body
            )
            found.append(Sized(size, repeated(partial(passage.measure, load), scale.steps)))
    return finding_of(found)


def finding_of(found: list[Sized]) -> Finding:
    """Word what was measured."""
    table = Table(
        ("bytes", "messages/s", "MB/s", "CPU us each"),
        tuple(
            (
                f"{each.size:,}",
                f"{each.median.per_second:,.0f}",
                f"{each.mb_per_second:.1f}",
                f"{each.median.cpu_us:,.0f}",
            )
            for each in found
        ),
    )
    smallest, largest = found[0], found[-1]
    sizes = tuple(float(each.size) for each in found)
    costs = tuple(each.median.cpu_us for each in found)
    return Finding(
        sentences=(
            f"{largest.size // smallest.size:,} times the bytes cost"
            f" {largest.median.cpu_us / smallest.median.cpu_us:.1f} times the processor time.",
        ),
        tables=(table,),
        charts=(
            Chart(
                name="payload",
                title="Cost of a message, end to end",
                x_label="bytes of payload",
                y_label="processor time of the broker, microseconds",
                curves=(Curve("one request in, one webhook out", sizes, costs),),
                x_log=True,
                y_log=True,
            ),
        ),
        figures={f"cpu_us_{each.size}": each.median.cpu_us for each in found},
    )
