"""What several cells tell Prometheus together."""

from __future__ import annotations

from broker.histogram import Histogram
from broker.metrics import Measures, render, together
from broker.store.port import StoreMeasures, TopicStats


def measures(topic: str, seconds: float, free: int) -> Measures:
    """Make the measures of a cell with one topic."""
    commits = Histogram()
    commits.observe(seconds)
    return Measures(
        now=1.0,
        published={topic: 2},
        repeated={},
        refused={"storage_full": 1},
        topics={topic: TopicStats(2, 20, 1, 2, 0, 0)},
        subscriptions=[],
        store=StoreMeasures(commits, 10, 100, 1, free),
    )


def test_cells_add_up() -> None:
    text = render(together({0: measures("a", 0.1, 50), 5: measures("b", 0.2, 40)})).decode()
    for line in (
        'broker_messages_published_total{topic="a"} 2.0',
        'broker_messages_published_total{topic="b"} 2.0',
        'broker_publish_refused_total{code="storage_full"} 2.0',
        "broker_store_commit_seconds_count 2.0",
        "broker_store_file_bytes 200.0",
        "broker_store_free_bytes 40.0",
        'broker_cell_owned{cell="0"} 1.0',
        'broker_cell_owned{cell="5"} 1.0',
    ):
        assert line in text.splitlines()


def test_broker_that_owns_nothing_tells_of_no_disk() -> None:
    text = render(together({})).decode()
    assert "broker_info" in text
    assert "broker_store_free_bytes" not in text
