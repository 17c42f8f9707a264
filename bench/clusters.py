"""Brokers on NATS JetStream: one that owns the store and one that stands by, or some that share."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.rivals.nats_jetstream import PROGRAM
from bench.rivals.rival import find_program
from bench.server_process import (
    HOST,
    POLL_S,
    ServerFailed,
    ServerProcess,
    free_port,
    running,
)
from bench.servers import ServerUnderTest, broker_environ, broker_process

SHARES_S = 60.0
OWNED = "\nbroker_cell_owned{"

CONFIGURATION = """\
server_name: {name}
host: {host}
port: {port}
http: "{host}:{http_port}"
jetstream {{
  store_dir: "{data}"
  sync_interval: {sync}
}}
"""
ROUTES = """\
cluster {{
  name: bench
  host: {host}
  port: {own}
  routes: [{routes}]
}}
"""


def on_jetstream(servers: int) -> Callable[[Path], AbstractContextManager[ServerUnderTest]]:
    """Say how a cluster is run whose journal is kept by so many servers.

    One server syncs each write; of three, two have it before it is answered.
    """
    return partial(running_cluster, servers=servers)


@dataclass(frozen=True, slots=True)
class NatsProcess:
    """A NATS server: its process, and where it tells of itself."""

    process: ServerProcess
    monitor: ServerProcess


@dataclass(frozen=True, slots=True)
class Cluster:
    """Brokers that share a store; of one cell the first owns it, and the second stands by."""

    brokers: tuple[ServerUnderTest, ...]
    nats: tuple[NatsProcess, ...]

    @property
    def owner(self) -> ServerUnderTest:
        """The broker that was started first."""
        return self.brokers[0]

    @property
    def standby(self) -> ServerUnderTest:
        """The one that came after it."""
        return self.brokers[1]

    @property
    def whole(self) -> ServerUnderTest:
        """All of it, where the first broker is under load."""
        processes = (*(each.process for each in (*self.nats, *self.brokers[1:])),)
        others = tuple(each.pid for each in processes)
        return ServerUnderTest(
            self.owner.process, self.owner.database, self.owner.grpc_port, others
        )


@contextmanager
def running_cluster(folder: Path, servers: int) -> Iterator[ServerUnderTest]:
    """Serve two brokers that share a journal; the one under load owns it."""
    with started_cluster(folder, servers) as cluster:
        yield cluster.whole


@contextmanager
def started_cluster(
    folder: Path, servers: int, brokers: int = 2, cells: int = 1
) -> Iterator[Cluster]:
    """Start NATS servers, then brokers, and wait until each broker owns its share of cells."""
    with ExitStack() as stack:
        nats = _start_nats(folder, servers, stack)
        address = ",".join(f"{HOST}:{each.process.port}" for each in nats)
        store = f"nats://{address}/bench" + (f"?cells={cells}" if cells > 1 else "")
        started = [
            stack.enter_context(_broker(folder / f"broker-{number}", store))
            for number in range(brokers)
        ]
        if cells > 1:
            _await_shares(started, cells)
        yield Cluster(tuple(started), tuple(nats))


def _await_shares(brokers: Sequence[ServerUnderTest], cells: int) -> None:
    until = time.monotonic() + SHARES_S
    while True:
        shares = [each.process.text("/metrics").count(OWNED) for each in brokers]
        if sum(shares) == cells and max(shares) - min(shares) <= 1:
            return
        if time.monotonic() > until:
            raise ServerFailed(f"the shares of {cells} cells are {shares}")
        time.sleep(POLL_S)


@contextmanager
def _broker(folder: Path, store: str) -> Iterator[ServerUnderTest]:
    folder.mkdir()
    environ = {"BROKER_STORE": store, "BROKER_REPLICA": str(folder.absolute() / "replica")}
    port, grpc_port = free_port(), free_port()
    environ |= {"BROKER_NODE_URL": f"http://{HOST}:{port}"}
    with broker_process(folder, broker_environ(port, grpc_port) | environ, port) as process:
        yield ServerUnderTest(process, folder / "replica" / "replica.db", grpc_port)


def _start_nats(folder: Path, servers: int, stack: ExitStack) -> list[NatsProcess]:
    """Start servers; several can only be ready together, so the last is the one waited for."""
    routes = [free_port() for _ in range(servers)]
    started = []
    for number, own in enumerate(routes):
        place = folder / f"nats-{number}"
        place.mkdir()
        port, http_port = free_port(), free_port()
        text = CONFIGURATION.format(
            name=f"n{number}",
            host=HOST,
            port=port,
            http_port=http_port,
            data=(place / "data").absolute(),
            sync="always" if servers == 1 else "2m",
        )
        if servers > 1:
            urls = ", ".join(f"nats://{HOST}:{each}" for each in routes)
            text += ROUTES.format(host=HOST, own=own, routes=urls)
        configuration = place / "nats.conf"
        configuration.write_text(text)
        command = [find_program(PROGRAM) or PROGRAM, "-c", str(configuration.absolute())]
        process = stack.enter_context(
            running(command, port=http_port, ready_path="/", log=place / "nats.log")
        )
        started.append(NatsProcess(ServerProcess(process.pid, port), process))
    return started
