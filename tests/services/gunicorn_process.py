"""A service as its users run it: gunicorn, set by its environment, on a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from services.signed import SECRET
from support.broker_process import free_port
from support.eventually import eventually

START_S = 30.0
STOP_S = 20.0
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


class GunicornProcess:
    """`gunicorn --config python:<package>.gunicorn_conf`, started as often as one likes.

    It prints to `<folder>/<package>.log`, over all its starts.
    """

    def __init__(self, package: str, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / f"{package}.log"
        self._package = package
        self._environment = {
            **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DATABASE_URL": f"sqlite:///{folder / package}.db",
            "BROKER_WEBHOOK_URL": self.url,
            "BROKER_WEBHOOK_SECRET": SECRET,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "never started"
        return self._process

    def start(self) -> GunicornProcess:
        """Start it and wait until it is ready."""
        self.launch()
        return self.wait_until_ready()

    def launch(self) -> None:
        """Start it and do not wait."""
        command = [sys.executable, "-m", "gunicorn", "--config"]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"python:{self._package}.gunicorn_conf"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> GunicornProcess:
        """Wait until `/readyz` says so. Raises RuntimeError if the process has ended."""
        eventually(self._is_ready, within_s=START_S)
        return self

    def log(self) -> str:
        """Everything it has printed so far."""
        return self.log_path.read_text(errors="replace")

    def wait(self) -> int:
        """Wait until it has ended by itself and give its exit code."""
        return self.process.wait(STOP_S)

    def stop(self) -> int:
        """Ask it to stop (SIGTERM), wait, and give its exit code."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """Kill -9 all of it at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Leave nothing of it behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"ended with {self.process.returncode}:\n{self.log()}")
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
