"""What a broker costs before anything happens: a start, memory, processor time at rest."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.process_tree import Memory
from bench.servers import ServerUnderTest, running_broker

# What a start leaves to do in the background is not idleness.
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Idle:
    """A broker that has just been started and has nothing to do.

    `start_s` is from the start of its process until it says that it is ready; `cpu_share` is the
    part of one core that it uses at rest.
    """

    start_s: float
    cpu_share: float
    memory: Memory


@contextmanager
def started_idle(folder: Path, rest_s: float) -> Iterator[tuple[ServerUnderTest, Idle]]:
    """Start the broker on the database in the folder, and watch it rest before it is used."""
    started_at = time.monotonic()
    with running_broker(folder) as server:
        start_s = time.monotonic() - started_at
        yield server, watch_rest(server, start_s, rest_s)


def watch_rest(server: ServerUnderTest, start_s: float, rest_s: float) -> Idle:
    """Watch a broker do nothing for so long."""
    time.sleep(SETTLE_S)
    cpu_s, at = server.cpu_seconds(), time.monotonic()
    time.sleep(rest_s)
    used, took = server.cpu_seconds() - cpu_s, time.monotonic() - at
    return Idle(start_s, used / took, server.memory())
