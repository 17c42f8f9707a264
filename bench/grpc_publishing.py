"""How many messages a second are taken durably over gRPC."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

from bench.loader import LoadOutcome, parse_outcome
from bench.publishing import check_stored
from bench.result import Result, cost_since
from bench.server_process import ROOT
from bench.servers import running_broker
from bench.topic import Topic, final_count


def measure_grpc_publishes(
    folder: Path, seconds: float, how: Literal["calls", "stream"], at_once: int, events: int = 1
) -> Result:
    """Publish to a topic nobody subscribes to, then ask the broker how many it holds."""
    with running_broker(folder) as server:
        topic = Topic.created(server.process)
        cpu_s = server.cpu_seconds()
        outcome = run_grpc_loader(server.grpc_port, topic.name, seconds, how, at_once, events)
        cost = cost_since(cpu_s, server)
        stored = final_count([topic])
    accepted = outcome.accepted * events
    check_stored(accepted, stored, unanswered=0)
    return Result(messages=accepted, seconds=outcome.seconds, cost=cost, errors=outcome.errors)


def run_grpc_loader(
    port: int, topic: str, seconds: float, how: str, at_once: int, events: int
) -> LoadOutcome:
    """Load the server for the given time."""
    command = [sys.executable, "-m", "bench.grpc_loader", str(port), topic, str(seconds)]
    command += [str(at_once), how, str(events)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return parse_outcome(done.stdout)
