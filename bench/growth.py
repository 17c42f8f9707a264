"""What grows with what a broker holds: each cost at two sizes a factor of a hundred apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench.crowd import create_topics, subscribe_all
from bench.end_to_end import SINGLE
from bench.fill import fill
from bench.finding import Finding, Say
from bench.idle import Idle, started_idle
from bench.nginx import Nginx, running_nginx
from bench.passage import Passage
from bench.publishing import load_of
from bench.repeats import Median, repeated
from bench.retrying import RETRY, await_retries
from bench.scale import Scale
from bench.servers import running_broker
from bench.table import Table
from bench.topic import Subscription, Topic

FACTOR = 100
CONNECTIONS = 64
REST_S = 2
EACH = 10  # subscriptions a topic
TRYING = 10  # subscriptions that retry
# What is told as growth, after a hundredfold: more than what two runs differ by.
GROWS = 1.5
# Below it, a broker at rest counts as using nothing.
REST_FLOOR = 0.01
MB = 1e6


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dimension puts what it makes: the topic that is measured, and an endpoint."""

    topic: Topic
    nginx: Nginx


@dataclass(frozen=True, slots=True)
class Dimension:
    """Something of which a broker may hold much, and `large` of it; `prepare` makes so much.

    The messages that are then measured have the options given here.
    """

    name: str
    large: int
    prepare: Callable[[Place, int, Say], None]
    ordering: str = "none"
    keyed: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    scattered_ids: bool = False

    def sizes(self, divisor: int) -> tuple[int, int]:
        """Give both sizes, for a smaller run divided."""
        small = max(self.large // FACTOR // divisor, 1)
        return small, small * FACTOR


@dataclass(frozen=True, slots=True)
class Costs:
    """What one size costs: a start, a rest, and a message from publish to webhook."""

    size: int
    idle: Idle
    passage: Median


@dataclass(frozen=True, slots=True)
class Pair:
    """A dimension at both sizes."""

    name: str
    small: Costs
    large: Costs

    def ratios(self) -> dict[str, float]:
        """Compare the large one with the small one, by cost."""
        small, large = self.small, self.large
        rests = [max(each.idle.cpu_share, REST_FLOOR) for each in (small, large)]
        return {
            "start": large.idle.start_s / small.idle.start_s,
            "rest": rests[1] / rests[0],
            "memory": large.idle.memory.pss_bytes / small.idle.memory.pss_bytes,
            "message": large.passage.cpu_us / small.passage.cpu_us,
        }


def _wait_in_log(place: Place, size: int, say: Say) -> None:
    place.topic.subscribe("waiting", {"endpoint": place.nginx.endpoint} | SINGLE)
    place.topic.broker.post(f"{place.topic.path}/subscriptions/waiting/pause", b"{}")
    fill(place.topic, size, say)


def _know_ids(place: Place, size: int, say: Say) -> None:
    fill(place.topic, size, say)


def _use_keys(place: Place, size: int, say: Say) -> None:
    """The measured messages have them."""


def _subscribe(place: Place, size: int, say: Say) -> None:
    topics = create_topics(place.topic.broker, [f"t-{n}" for n in range(max(size // EACH, 1))])
    subscribe_all(topics, min(size, EACH), {"endpoint": place.nginx.endpoint} | SINGLE)


def _create_topics(place: Place, size: int, say: Say) -> None:
    create_topics(place.topic.broker, [f"t-{number}" for number in range(size)])


def _retry(place: Place, size: int, say: Say) -> None:
    subscriptions = min(size, TRYING)
    options = {"endpoint": place.nginx.unknown, "retry": RETRY} | SINGLE
    subscribe_all([place.topic], subscriptions, options)
    fill(place.topic, size // subscriptions, say)
    await_retries(place.topic, size // subscriptions * subscriptions)
    for number in range(subscriptions):  # or they would try the measured messages too
        pause = f"{place.topic.path}/subscriptions/s-{number}/pause"
        place.topic.broker.post(pause, b"{}")


DIMENSIONS = (
    Dimension("messages waiting in the log", 1_000_000, _wait_in_log),
    Dimension(
        "ids of past messages",
        1_000_000,
        _know_ids,
        headers={
            "ce-id": "@@@@@@@@@@@@",
            "ce-source": "/bench",
            "ce-type": "order.created",
            "ce-specversion": "1.0",
        },
        scattered_ids=True,
    ),
    Dimension(
        "keys",
        100_000,
        _use_keys,
        ordering="key",
        keyed=True,
        headers={"ce-partitionkey": "key-{n}"},
    ),
    Dimension("idle subscriptions", 10_000, _subscribe),
    Dimension("topics", 10_000, _create_topics),
    Dimension("deliveries that wait for a retry", 100_000, _retry),
)


def measure_growth(folder: Path, scale: Scale, say: Say) -> Finding:
    """Measure each dimension at both sizes."""
    pairs = []
    for number, dimension in enumerate(DIMENSIONS):
        small, large = (
            _measure(folder / f"{number}-{size}", dimension, size, scale, say)
            for size in dimension.sizes(scale.growth)
        )
        pairs.append(Pair(dimension.name, small, large))
    return finding_of(pairs)


def _measure(folder: Path, dimension: Dimension, size: int, scale: Scale, say: Say) -> Costs:
    say(f"{size:,} {dimension.name}")
    folder.mkdir()
    with running_nginx(folder) as nginx:
        with running_broker(folder) as server:
            dimension.prepare(Place(Topic.created(server.process), nginx), size, say)
        with started_idle(folder, REST_S) as (server, idle):
            topic = Topic(server.process)
            options = SINGLE | {"ordering": dimension.ordering}
            receiver = Subscription.created(topic, nginx, options)
            passage = Passage(server, [topic], nginx, watched=[receiver])
            load = replace(
                load_of(topic.messages_url, folder, scale.step_s, CONNECTIONS),
                variants=size if dimension.keyed else 1,
                headers=dimension.headers,
                scattered_ids=dimension.scattered_ids,
            )
            return Costs(size, idle, repeated(partial(passage.measure, load), 1))


def grown(pairs: Sequence[Pair]) -> list[tuple[str, str, float]]:
    """Name each dimension and cost of which a hundredfold costs notably more."""
    return [
        (pair.name, cost, ratio)
        for pair in pairs
        for cost, ratio in pair.ratios().items()
        if ratio > GROWS
    ]


COSTS = {
    "start": "a start",
    "rest": "processor time at rest",
    "memory": "memory",
    "message": "processor time of a message",
}


def finding_of(pairs: Sequence[Pair]) -> Finding:
    """Word what was measured."""
    rows = []
    for pair in pairs:
        ratios = pair.ratios()
        small, large = pair.small, pair.large
        rows.append(
            (
                f"{small.size:,} → {large.size:,} {pair.name}",
                _cell(small.idle.start_s, large.idle.start_s, "{:.2f}", ratios["start"]),
                _cell(
                    small.idle.cpu_share * 100, large.idle.cpu_share * 100, "{:.1f}", ratios["rest"]
                ),
                _cell(
                    small.idle.memory.pss_bytes / MB,
                    large.idle.memory.pss_bytes / MB,
                    "{:.0f}",
                    ratios["memory"],
                ),
                _cell(small.passage.cpu_us, large.passage.cpu_us, "{:.0f}", ratios["message"]),
            )
        )
    found = grown(pairs)
    sentences = tuple(
        f"A hundred times as many {name} cost {ratio:.1f} times as much: {COSTS[cost]}."
        for name, cost, ratio in found
    )
    return Finding(
        sentences=sentences or (f"Nothing costs more than {GROWS:g} times as much.",),
        tables=(
            Table(
                (
                    "small → large",
                    "start, s",
                    "CPU at rest, %",
                    "memory (PSS), MB",
                    "CPU of a message, us",
                ),
                tuple(rows),
            ),
        ),
        figures={
            f"{pair.name}: {cost}": ratio for pair in pairs for cost, ratio in pair.ratios().items()
        },
    )


def _cell(small: float, large: float, form: str, ratio: float) -> str:
    return f"{form.format(small)} → {form.format(large)} (x {ratio:.2f})"
