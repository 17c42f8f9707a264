"""The same work as this broker's cases, done by another."""

import time
from pathlib import Path

from bench.deliveries import POLL_S, await_deliveries
from bench.nginx import running_nginx
from bench.process_tree import cpu_seconds, memory
from bench.result import Cost, CountsDiffer, Result
from bench.rivals.processes import running_forwarder
from bench.rivals.rival import Rival, RivalServer

# Sent first, to warm up and to find how many messages take the time that is wanted.
TRIAL = 2_000
LEAST_MESSAGES = 1_000


def measure_rival_publishes(folder: Path, seconds: float, rival: Rival, connections: int) -> Result:
    """Publish one message at a time on each connection, then count what is stored."""
    with rival.running(folder) as server:
        port = server.process.port
        trial = rival.load(port, connections, TRIAL)
        messages = wanted(trial.answered / trial.seconds, seconds)
        cpu_s = server.cpu_seconds()
        outcome = rival.load(port, connections, messages)
        cost = Cost(server.cpu_seconds() - cpu_s, server.memory(), server.database_bytes())
        stored = _final_count(rival, port)
    accepted = trial.accepted + outcome.accepted
    if outcome.accepted == 0 or stored != accepted:
        raise CountsDiffer(f"{accepted:,} messages were accepted, but {stored:,} are stored")
    return Result(
        messages=outcome.accepted, seconds=outcome.seconds, cost=cost, errors=outcome.errors
    )


def measure_rival_end_to_end(
    folder: Path, seconds: float, rival: Rival, connections: int
) -> Result:
    """Publish likewise, while a forwarder makes a signed webhook of each message."""
    with rival.running(folder) as server, running_nginx(folder) as nginx:
        port = server.process.port
        log = folder / "forwarder.log"
        with running_forwarder(rival.name, port, nginx.endpoint, log) as forwarder:
            started_at = time.time()
            trial = rival.load(port, connections, TRIAL)
            got = await_deliveries(nginx, trial.accepted)
            messages = wanted(trial.accepted / (got.last_at - started_at), seconds)

            cpu_s, started_at = _cpu_seconds(server, forwarder), time.time()
            outcome = rival.load(port, connections, messages)
            backlog = outcome.accepted + trial.accepted - nginx.received()
            got = await_deliveries(nginx, trial.accepted + outcome.accepted)
            cost = Cost(
                _cpu_seconds(server, forwarder) - cpu_s,
                server.memory() + memory(forwarder),
                server.database_bytes(),
            )
    return Result(
        messages=outcome.accepted,
        seconds=got.last_at - started_at,
        cost=cost,
        errors=outcome.errors,
        backlog=max(backlog, 0),
    )


def wanted(per_second: float, seconds: float) -> int:
    """Say how many messages take about so long."""
    return max(round(per_second * seconds), LEAST_MESSAGES)


def _cpu_seconds(server: RivalServer, forwarder: int) -> float:
    return server.cpu_seconds() + cpu_seconds(forwarder)


def _final_count(rival: Rival, port: int) -> int:
    before, now = -1, rival.count(port)
    while now != before:
        time.sleep(POLL_S)
        before, now = now, rival.count(port)
    return now
