"""What a hundred failing endpoints, with very much waiting for them, take from healthy traffic.

Its rate is taken in turn with that of another broker, which has no failing endpoints.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.crowd import subscribe_all
from bench.deliveries import POLL_S, STUCK_S
from bench.end_to_end import SINGLE, end_to_end_on
from bench.fill import fill
from bench.finding import Finding, Say
from bench.nginx import Nginx, running_nginx
from bench.publishing import load_of
from bench.repeats import Median, in_turn
from bench.result import CountsDiffer, Result
from bench.scale import Scale
from bench.servers import ServerUnderTest, running_broker
from bench.table import Table
from bench.topic import Topic

ENDPOINTS = 100
CONNECTIONS = 64
# Each of these is tried once before the healthy traffic is measured, which takes its time.
TRIED_PART = 10
# That many of those that wait may be out for their next attempt.
OUT_PART = 0.02
# Long enough that waiting is most of what they do, as after many failures.
RETRY = {"max_attempts": 0, "min_backoff_s": 600, "max_backoff_s": 600}


@dataclass(frozen=True, slots=True)
class Beside:
    """Healthy traffic beside so many deliveries that wait."""

    title: str
    waiting: int
    alone: Median
    beside: Median

    @property
    def ratio(self) -> float:
        """Compare the rate with that of a broker without them."""
        return self.beside.per_second / self.alone.per_second


def measure_retrying(folder: Path, scale: Scale, say: Say) -> Finding:
    """Measure healthy traffic alone and beside endpoints that are down, and that refuse."""
    each = max(scale.waiting // ENDPOINTS, 1)
    down = folder / "down"
    refusing = folder / "refusing"
    found = [
        _beside(down, scale, say, "answer 500: circuits open", each, _fail_all),
        _beside(
            refusing,
            scale,
            say,
            "answer 404: each delivery is retried",
            max(each // TRIED_PART, 1),
            _try_all,
        ),
    ]
    return finding_of(found)


def _beside(
    folder: Path,
    scale: Scale,
    say: Say,
    title: str,
    messages: int,
    prepare: Callable[[Topic, Nginx, int, Say], int],
) -> Beside:
    other = folder / "alone"
    other.mkdir(parents=True)
    with (
        running_broker(folder) as server,
        running_nginx(folder) as nginx,
        running_broker(other) as without,
        running_nginx(other) as nginx_of_other,
    ):
        say(f"{ENDPOINTS} endpoints that {title}")
        waiting = prepare(Topic.created(server.process, "failing"), nginx, messages, say)
        say(f"healthy traffic alone, and beside {waiting:,} waiting deliveries")
        alone, beside = in_turn(
            [
                _healthy(other, without, nginx_of_other, scale),
                _healthy(folder, server, nginx, scale),
            ],
            scale.turns,
        )
    return Beside(title, waiting, alone, beside)


def _healthy(
    folder: Path, server: ServerUnderTest, nginx: Nginx, scale: Scale
) -> Callable[[], Result]:
    topic = Topic.created(server.process)
    load = load_of(topic.messages_url, folder, scale.step_s, CONNECTIONS)
    return end_to_end_on(topic, server, nginx, load)


def _fail_all(topic: Topic, nginx: Nginx, messages: int, say: Say) -> int:
    """Have the messages wait in the log, because their endpoints are down."""
    subscribe_all([topic], ENDPOINTS, {"endpoint": nginx.broken} | SINGLE)
    fill(topic, messages, say)
    _await_circuits(topic)
    waiting = sum(int(each["backlog"]) for each in _failing(topic))
    if waiting != messages * ENDPOINTS:
        raise CountsDiffer(f"{messages * ENDPOINTS:,} deliveries should wait, {waiting:,} do")
    return waiting


def _await_circuits(topic: Topic) -> None:
    """Wait until no endpoint is sent more than a probe."""
    deadline = time.monotonic() + STUCK_S
    while not all(
        each["state"] == "circuit-open" and each["in_flight"] <= 1 for each in _failing(topic)
    ):
        if time.monotonic() > deadline:
            raise CountsDiffer(f"not all circuits are open after {STUCK_S:.0f} s")
        time.sleep(POLL_S)


def _try_all(topic: Topic, nginx: Nginx, messages: int, say: Say) -> int:
    """Have each delivery tried once, and wait for its next attempt."""
    subscribe_all([topic], ENDPOINTS, {"endpoint": nginx.unknown, "retry": RETRY} | SINGLE)
    fill(topic, messages, say)
    return await_retries(topic, messages * ENDPOINTS)


def await_retries(topic: Topic, wanted: int) -> int:
    """Wait until so many deliveries of a topic have failed, but for the few that are out again."""
    most, seen_at = 0, time.monotonic()
    while True:
        shown = _failing(topic)
        waiting = sum(int(each["retrying"]) for each in shown)
        out = sum(int(each["in_flight"]) for each in shown)
        if waiting + out >= wanted and out <= wanted * OUT_PART:
            return waiting + out
        if waiting > most:
            most, seen_at = waiting, time.monotonic()
        elif time.monotonic() - seen_at > STUCK_S:
            raise CountsDiffer(f"{wanted:,} deliveries should wait for a retry, {waiting:,} do")
        time.sleep(POLL_S)


def _failing(topic: Topic) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = topic.broker.get(f"{topic.path}/subscriptions")["subscriptions"]
    return shown


def finding_of(found: Sequence[Beside]) -> Finding:
    """Word what was measured."""
    table = Table(
        (f"{ENDPOINTS} endpoints", "waiting", "alone/s", "beside/s", "beside : alone"),
        tuple(
            (
                each.title,
                f"{each.waiting:,}",
                f"{each.alone.per_second:,.0f}",
                f"{each.beside.per_second:,.0f}",
                f"{each.ratio:.2f}",
            )
            for each in found
        ),
    )
    return Finding(
        tables=(table,),
        figures={f"ratio_{number}": each.ratio for number, each in enumerate(found, 1)},
    )
