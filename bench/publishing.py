"""How many messages a second are taken durably, one a request."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.loader import Load, LoadOutcome, run_wrk
from bench.messages import JSON, order
from bench.result import CountsDiffer, Result, cost_since
from bench.servers import Running, ServerUnderTest, running_baseline, running_broker
from bench.topic import Topic, final_count


def measure_baseline(folder: Path, seconds: float, connections: int) -> Result:
    """Publish to the baseline app, then count the rows in its database."""
    with running_baseline(folder) as server:
        url = f"{server.process.url}/topics/bench/messages"
        outcome, result = publish(server, load_of(url, folder, seconds, connections))
        with closing(sqlite3.connect(server.database)) as connection:
            (stored,) = connection.execute("SELECT count(*) FROM message").fetchone()
    check_stored(outcome.accepted, stored, connections)
    return result


def measure_publishes(
    folder: Path, seconds: float, connections: int, serve: Running = running_broker
) -> Result:
    """Publish to a topic nobody subscribes to, then ask the broker how many it holds."""
    with serve(folder) as server:
        topic = Topic.created(server.process)
        load = load_of(topic.messages_url, folder, seconds, connections)
        return publish_to(server, [topic], load)


def load_of(url: str, folder: Path, seconds: float, connections: int, variants: int = 1) -> Load:
    """Publish the usual message, one a request."""
    body = folder / "message.json"
    body.write_bytes(order())
    return Load(url, JSON, body, connections, seconds, variants)


def publish_to(server: ServerUnderTest, topics: Sequence[Topic], load: Load) -> Result:
    """Publish to topics, and compare the counts. Raises CountsDiffer."""
    held = final_count(topics)
    outcome, result = publish(server, load)
    check_stored(outcome.accepted, final_count(topics) - held, load.unanswered)
    return result


def publish(server: ServerUnderTest, load: Load) -> tuple[LoadOutcome, Result]:
    """Load a server with requests of one message each."""
    cpu_s = server.cpu_seconds()
    outcome = run_wrk(load)
    result = Result(
        messages=outcome.accepted,
        seconds=outcome.seconds,
        cost=cost_since(cpu_s, server),
        errors=outcome.errors,
    )
    return outcome, result


def check_stored(accepted: int, stored: int, unanswered: int) -> None:
    """Compare what was answered 201 with what is stored.

    The loader drops what is under way when its time is over: up to `unanswered` messages may be
    stored without an answer. Raises CountsDiffer.
    """
    if not 0 < accepted <= stored <= accepted + unanswered:
        raise CountsDiffer(f"{accepted} messages were accepted, but {stored} are stored")
