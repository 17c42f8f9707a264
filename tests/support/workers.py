"""gunicorn's workers, found quickly enough to meet one in its first millisecond."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from support.eventually import eventually

START_S = 10.0


def workers_of(arbiter: int) -> list[int]:
    """Return the process ids of the workers."""
    return [
        int(pid) for pid in Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()
    ]


def terminate_each_at_once(arbiter: int, count: int) -> None:
    """Kill every worker; send SIGTERM to the next ones as they appear, and see each of them end."""
    seen = set(workers_of(arbiter))
    for worker in seen:
        os.kill(worker, signal.SIGKILL)
    for _ in range(count):
        worker = _next_worker(arbiter, seen)
        os.kill(worker, signal.SIGTERM)
        eventually(lambda gone=worker: gone not in workers_of(arbiter))
        seen.add(worker)


def _next_worker(arbiter: int, seen: set[int]) -> int:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:  # without a pause
        new = [worker for worker in workers_of(arbiter) if worker not in seen]
        if new:
            return new[0]
    raise AssertionError("no worker takes the place of one that ended")
