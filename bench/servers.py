"""The servers under load: the broker and the baseline, each on an empty database."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bench.process_tree import Memory, cpu_seconds, memory
from bench.server_process import HOST, ServerProcess, free_port, running

Running: TypeAlias = Callable[[Path], AbstractContextManager["ServerUnderTest"]]

# The fastest of 1 to 4 workers with 1 to 64 threads on two cores.
BASELINE_WORKERS = 2
BASELINE_THREADS = 4


@dataclass(frozen=True, slots=True)
class ServerUnderTest:
    """A server whose cost is measured; `others` are processes that it cannot do without."""

    process: ServerProcess
    database: Path
    grpc_port: int = 0
    others: tuple[int, ...] = ()

    def cpu_seconds(self) -> float:
        """Sum the processor time that it and its children have used."""
        return sum(map(cpu_seconds, (self.process.pid, *self.others)))

    def memory(self) -> Memory:
        """Sum the memory that it and its children hold."""
        return memory(self.process.pid)

    def database_bytes(self) -> int:
        """Sum the database file and what belongs to it (WAL, shared memory)."""
        files = self.database.parent.glob(self.database.name + "*")
        return sum(file.stat().st_size for file in files)


def broker_command() -> Path:
    """Name the command that `make setup` installs beside this interpreter."""
    return Path(sys.executable).with_name("broker")


@contextmanager
def running_broker(folder: Path) -> Iterator[ServerUnderTest]:
    """Serve a broker as its users start it, on the database in the folder or an empty one."""
    database, port, grpc_port = folder / "broker.db", free_port(), free_port()
    store = {"BROKER_STORE": f"sqlite:///{database.absolute()}"}
    with broker_process(folder, broker_environ(port, grpc_port) | store, port) as process:
        yield ServerUnderTest(process, database, grpc_port)


def broker_environ(port: int, grpc_port: int) -> dict[str, str]:
    """Return the environment of a broker, its store left out."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("BROKER_")}
    return environ | {
        "BROKER_HOST": HOST,
        "BROKER_PORT": str(port),
        "BROKER_GRPC_PORT": str(grpc_port),
        "BROKER_ALLOWED_TARGETS": "127.0.0.0/8",
    }


def broker_process(
    folder: Path, environ: Mapping[str, str], port: int
) -> AbstractContextManager[ServerProcess]:
    """Serve a broker, its log in a folder."""
    return running(
        [str(broker_command()), "serve"],
        port=port,
        ready_path="/readyz",
        log=folder / "broker.log",
        environ=environ,
    )


@contextmanager
def running_baseline(folder: Path) -> Iterator[ServerUnderTest]:
    """Serve the baseline app under gunicorn, on an empty database."""
    database, port = folder / "baseline.db", free_port()
    with _gunicorn(folder, database, port) as process:
        yield ServerUnderTest(process, database)


def _gunicorn(folder: Path, database: Path, port: int) -> AbstractContextManager[ServerProcess]:
    command = [sys.executable, "-m", "gunicorn", "bench.baseline_app:create_app()"]
    command += ["--worker-class=gthread", f"--workers={BASELINE_WORKERS}"]
    command += [f"--threads={BASELINE_THREADS}", f"--bind={HOST}:{port}", "--no-control-socket"]
    return running(
        command,
        port=port,
        ready_path="/readyz",
        log=folder / "baseline.log",
        environ=os.environ | {"BASELINE_DATABASE": str(database)},
    )
