"""The bench's own processes beside another broker: its loader and its forwarder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.loader import LoadOutcome, parse_outcome
from bench.server_process import ROOT, ServerFailed

READY = "ready"
STOP_S = 10.0


def run_closed_loop(name: str, port: int, connections: int, messages: int) -> LoadOutcome:
    """Publish so many messages to a rival."""
    arguments = [name, str(port), str(connections), str(messages)]
    command = [sys.executable, "-m", "bench.rivals.closed_loop", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return parse_outcome(done.stdout)


@contextmanager
def running_forwarder(name: str, port: int, url: str, log: Path) -> Iterator[int]:
    """Forward what a rival has to an endpoint; give the process's id."""
    command = [sys.executable, "-m", "bench.rivals.forwarder", name, str(port), url]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != READY.encode():
                raise ServerFailed(f"the forwarder did not start:\n{log.read_text()[-2000:]}")
            yield process.pid
        finally:
            process.terminate()
            process.wait(STOP_S)
