"""Metrics in the text format of Prometheus.

What is counted on the way is a number in memory; everything else is asked for at the scrape.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from broker import __version__
from broker.dispatch.tally import Tally
from broker.histogram import Histogram
from broker.store.port import Standing, StoreMeasures, TopicStats

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SUBSCRIPTION = ("topic", "subscription")
OUTCOMES = ("acked", "retried", "dead", "expired", "dropped")


@dataclass(frozen=True, slots=True)
class SubscriptionMeasures:
    """A subscription at the moment of a scrape. `tally` is None where it is not at work."""

    topic: str
    name: str
    standing: Standing
    in_flight: int
    paused: bool
    circuit_open: bool
    no_consent: bool
    tally: Tally | None


@dataclass(frozen=True, slots=True)
class Measures:
    """Everything at the moment of a scrape."""

    now: float
    published: Mapping[str, int]
    repeated: Mapping[str, int]
    refused: Mapping[str, int]
    topics: Mapping[str, TopicStats]
    subscriptions: Sequence[SubscriptionMeasures]
    store: StoreMeasures | None
    cells: Sequence[int] = ()


def together(parts: Mapping[int, Measures]) -> Measures:
    """Add up the measures of the cells of a store that one process owns, which may be none."""
    published, repeated, refused = Counter[str](), Counter[str](), Counter[str]()
    topics: dict[str, TopicStats] = {}
    for part in parts.values():
        published.update(part.published)
        repeated.update(part.repeated)
        refused.update(part.refused)
        topics.update(part.topics)
    subscriptions = [each for part in parts.values() for each in part.subscriptions]
    stores = [part.store for part in parts.values() if part.store is not None]
    return Measures(
        max((part.now for part in parts.values()), default=0.0),
        published,
        repeated,
        refused,
        topics,
        subscriptions,
        _stores(stores),
        sorted(parts),
    )


def _stores(stores: Sequence[StoreMeasures]) -> StoreMeasures | None:
    """Add up what the files take; their disk is the same."""
    if not stores:
        return None
    commits = Histogram()
    for store in stores:
        commits.add(store.commits)
    return StoreMeasures(
        commits,
        sum(store.wal_bytes for store in stores),
        sum(store.file_bytes for store in stores),
        sum(store.reusable for store in stores),
        min(store.free for store in stores),
    )


def render(measures: Measures) -> bytes:
    """Render measures, and those of the process, as a scrape wants them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(measures))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        measures = self._measures
        yield _gauge("broker_info", "The broker that runs.", ("version",), [((__version__,), 1.0)])
        yield from _of_topics(measures)
        yield from _of_subscriptions(measures)
        if measures.cells:
            yield _gauge(
                "broker_cell_owned",
                "1 for each cell of the store that this broker owns.",
                ("cell",),
                [((str(cell),), 1.0) for cell in measures.cells],
            )
        if measures.store is not None:
            yield from _of_the_store(measures.store)


def _of_topics(measures: Measures) -> Iterator[Metric]:
    yield _counter(
        "broker_messages_published",
        "Messages stored.",
        ("topic",),
        [((topic,), float(count)) for topic, count in measures.published.items()],
    )
    yield _counter(
        "broker_messages_repeated",
        "Publishes of a message that was stored already.",
        ("topic",),
        [((topic,), float(count)) for topic, count in measures.repeated.items()],
    )
    yield _counter(
        "broker_publish_refused",
        "Publish requests refused, by the code of the refusal.",
        ("code",),
        [((code,), float(count)) for code, count in measures.refused.items()],
    )
    yield _gauge(
        "broker_topic_messages",
        "Messages in the log.",
        ("topic",),
        [((topic,), float(stats.message_count)) for topic, stats in measures.topics.items()],
    )
    yield _gauge(
        "broker_topic_bytes",
        "Bytes of the messages in the log.",
        ("topic",),
        [((topic,), float(stats.bytes)) for topic, stats in measures.topics.items()],
    )
    yield _gauge(
        "broker_topic_scheduled_messages",
        "Messages that wait for their time.",
        ("topic",),
        [((topic,), float(stats.scheduled_count)) for topic, stats in measures.topics.items()],
    )


def _of_subscriptions(measures: Measures) -> Iterator[Metric]:
    every = measures.subscriptions
    for name, said, values in (
        ("backlog", "Messages owed.", [float(each.standing.backlog) for each in every]),
        (
            "oldest_unsettled_seconds",
            "Age of the oldest message owed.",
            [_age(each.standing, measures.now) for each in every],
        ),
        ("in_flight", "Requests that are out.", [float(each.in_flight) for each in every]),
        ("paused", "1 while it is paused.", [float(each.paused) for each in every]),
        (
            "circuit_open",
            "1 while its endpoint is left alone after failures.",
            [float(each.circuit_open) for each in every],
        ),
        (
            "without_consent",
            "1 while nothing is sent for want of its endpoint's consent.",
            [float(each.no_consent) for each in every],
        ),
    ):
        samples = [
            ((each.topic, each.name), value) for each, value in zip(every, values, strict=True)
        ]
        yield _gauge(f"broker_subscription_{name}", said, _SUBSCRIPTION, samples)
    yield _gauge(
        "broker_subscription_exceptions",
        "Deliveries that have failed, wait behind one that has, or are leased, by state.",
        (*_SUBSCRIPTION, "state"),
        [
            ((each.topic, each.name, state), float(count))
            for each in every
            for state, count in each.standing.rows.items()
        ],
    )
    working = [(each, each.tally) for each in every if each.tally is not None]
    yield _counter(
        "broker_deliveries",
        "Deliveries by what became of an attempt.",
        (*_SUBSCRIPTION, "outcome"),
        [
            ((each.topic, each.name, outcome), float(getattr(tally, outcome)))
            for each, tally in working
            for outcome in OUTCOMES
        ],
    )
    attempts = HistogramMetricFamily(
        "broker_attempt_duration_seconds",
        "How long attempts took, by whether the endpoint answered 2xx.",
        labels=(*_SUBSCRIPTION, "result"),
    )
    latency = HistogramMetricFamily(
        "broker_delivery_latency_seconds",
        "From a message's place in the log to its ack.",
        labels=_SUBSCRIPTION,
    )
    for each, tally in working:
        for result, histogram in (("ok", tally.answered), ("failed", tally.failed)):
            _add(attempts, (each.topic, each.name, result), histogram)
        _add(latency, (each.topic, each.name), tally.latency)
    yield attempts
    yield latency


def _of_the_store(store: StoreMeasures) -> Iterator[Metric]:
    commits = HistogramMetricFamily("broker_store_commit_seconds", "How long commits took.")
    commits.add_metric([], store.commits.cumulated(), store.commits.sum)
    yield commits
    for name, said, value in (
        ("broker_store_wal_bytes", "Size of the write-ahead log.", store.wal_bytes),
        ("broker_store_file_bytes", "Size of the database.", store.file_bytes),
        ("broker_store_reusable_bytes", "Room in the database, left by removals.", store.reusable),
        ("broker_store_free_bytes", "Room on the disk.", store.free),
    ):
        yield _gauge(name, said, (), [((), float(value))])


def _age(standing: Standing, now: float) -> float:
    at = standing.oldest_unsettled_at
    return 0.0 if at is None else max(0.0, now - at)


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    if histogram.count:  # of thousands of idle subscriptions nothing is told
        family.add_metric(labels, histogram.cumulated(), histogram.sum)


def _counter(
    name: str, said: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = CounterMetricFamily(name, said, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _gauge(
    name: str, said: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(name, said, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
