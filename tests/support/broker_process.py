"""A broker as its users run it: `broker serve`, set by its environment, on a folder of its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from support.api import Api
from support.eventually import eventually

BROKER = Path(sys.executable).with_name("broker")
ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
STOP_S = 30.0
# Below what Linux gives to connections (net.ipv4.ip_local_port_range), and what the bench takes.
PORTS = (10_000, 28_000)
CHANCE = random.SystemRandom()
_told: set[int] = set()


def free_port() -> int:
    """Find a TCP port nobody listens on, and that nobody else is told of.

    It is none of those that the system gives to connections, of which one could have it by the time
    that somebody listens. Each worker of `pytest -n` has ports of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = CHANCE.randrange(PORTS[0] + worker, PORTS[1], workers)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _told:
                _told.add(port)
                return port


class BrokerProcess:
    """`broker serve` on `folder`, always at the same port, so that it can be started again.

    A setting of None is left out of the environment; `within` is a command that is to run it.
    Everything the broker prints goes to `<folder>/broker.log`, over all its starts.
    """

    def __init__(self, folder: Path, **settings: str | None) -> None:
        self.folder = folder
        self.port = free_port()
        self.grpc_port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.api = Api(self.base_url)
        self.log_path = folder / "broker.log"
        self._environment = {
            name: value
            for name, value in (self._clean_environment() | self._defaults() | settings).items()
            if value is not None
        }
        self.within: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _clean_environment() -> dict[str, str | None]:
        own = ("BROKER_", "OTEL_")
        return {name: value for name, value in os.environ.items() if not name.startswith(own)}

    def _defaults(self) -> dict[str, str | None]:
        return {
            "BROKER_STORE": f"sqlite:///{self.folder / 'broker.db'}",
            "BROKER_HOST": "127.0.0.1",
            "BROKER_PORT": str(self.port),
            "BROKER_GRPC_PORT": str(self.grpc_port),
            "BROKER_PUBLIC_URL": self.base_url,
            "BROKER_ALLOWED_TARGETS": "127.0.0.0/8,localhost",
        }

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "never started"
        return self._process

    def start(self) -> BrokerProcess:
        """Start it and wait until it is ready."""
        self.launch()
        eventually(self.is_ready, within_s=START_S)
        return self

    def set(self, **settings: str | None) -> None:
        """Change settings; the next start has them."""
        for name, value in settings.items():
            self._environment.pop(name, None)
            if value is not None:
                self._environment[name] = value

    def launch(self) -> None:
        """Start it and do not wait."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.within, BROKER, "serve"],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def running(self) -> bool:
        """Say whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Ask `/readyz`. Raises RuntimeError if the process has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"broker ended with {self.process.returncode}:\n{self.log()}")
        try:
            return httpx.get(f"{self.base_url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def recover(self) -> None:
        """Wait until it is ready; start it again whenever it has ended, as a supervisor would."""

        def ready() -> bool:
            if self.process.poll() is not None:
                self.launch()
            try:
                return self.is_ready()
            except RuntimeError:
                return False

        eventually(ready, within_s=START_S)

    def is_answering(self) -> bool:
        """Say whether `/healthz` answers at all."""
        try:
            return httpx.get(f"{self.base_url}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def log(self) -> str:
        """Everything it has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait(self, within_s: float = STOP_S) -> int:
        """Wait until it has ended by itself and give its exit code."""
        return self.process.wait(within_s)

    def stop(self) -> int:
        """Ask it to stop (SIGTERM), wait, and give its exit code.

        The client's idle connections are closed first: the broker would wait for them a while.
        """
        self._new_client()
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """Kill -9 every one of its processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._new_client()

    def _new_client(self) -> None:
        self.api.close()
        self.api = Api(self.base_url)

    def close(self) -> None:
        """Leave nothing of it behind."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.api.close()

    def worker(self) -> psutil.Process:
        """Find the process that owns the store: the one that has a courier."""
        return eventually(lambda: _parent(self.courier()))

    def courier(self) -> psutil.Process:
        """Find the process that sends the webhooks: a child of the worker, itself childless."""
        return self.couriers(1)[0]

    def couriers(self, least: int) -> list[psutil.Process]:
        """Find those processes where there are several, the oldest first."""
        return eventually(lambda: _deepest(psutil.Process(self.process.pid), least))


StartBroker = Callable[..., BrokerProcess]


def has_ended(process: psutil.Process) -> bool:
    """Say whether a process is gone, or only waits for its parent to notice."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _parent(process: psutil.Process) -> psutil.Process | None:
    try:
        return process.parent()
    except psutil.NoSuchProcess:
        return None


def _deepest(root: psutil.Process, least: int) -> list[psutil.Process]:
    """Give the grandchildren of `root` (gunicorn, its worker, the worker's couriers), or none."""
    try:
        grandchildren = [grandchild for child in root.children() for grandchild in child.children()]
        grandchildren.sort(key=psutil.Process.create_time)
    except psutil.NoSuchProcess:
        return []
    alive = [process for process in grandchildren if not has_ended(process)]
    return alive if len(alive) >= least else []
