"""A server started for one case on a free port, and ended with it."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_S = 60.0
ANSWER_S = 60.0
STOP_S = 30.0
POLL_S = 0.02
# Below what Linux gives to connections (net.ipv4.ip_local_port_range), above what tests take.
PORTS = (28_000, 32_768)


class ServerFailed(Exception):
    """A server did not start, or did not end."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server: its own process and the port it listens on."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Give the root of its HTTP API."""
        return f"http://{HOST}:{self.port}"

    def get(self, path: str) -> Any:
        """GET a JSON document."""
        return self._call("GET", path, None)

    def text(self, path: str) -> str:
        """GET a text."""
        return self._content("GET", path, None).decode()

    def put(self, path: str, document: Mapping[str, Any]) -> Any:
        """PUT a JSON document, return the one in the answer."""
        return self._call("PUT", path, msgspec.json.encode(document))

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> Any:
        """POST a document, return the JSON one in the answer."""
        return self._call("POST", path, body, content_type)

    def delete(self, path: str) -> None:
        """DELETE something."""
        self._call("DELETE", path, None)

    def _call(
        self, method: str, path: str, body: bytes | None, content_type: str = "application/json"
    ) -> Any:
        content = self._content(method, path, body, content_type)
        return msgspec.json.decode(content) if content else None

    def _content(
        self, method: str, path: str, body: bytes | None, content_type: str = "application/json"
    ) -> bytes:
        connection = HTTPConnection(HOST, self.port, timeout=ANSWER_S)
        try:
            connection.request(method, path, body, {"Content-Type": content_type})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise ServerFailed(f"{method} {path} was answered {answer.status}: {content!r}")
        return content


def free_port() -> int:
    """Find a port that nobody listens on, and that the system gives to no connection."""
    while True:
        port = random.randrange(*PORTS)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


@contextmanager
def running(
    command: list[str],
    *,
    port: int,
    log: Path,
    ready_path: str = "/readyz",
    ready: Callable[[int], bool] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[ServerProcess]:
    """Start a server, wait until it is ready, end it on leaving the block.

    It is when it answers 200 at `ready_path`, or, where it does not speak HTTP, when `ready` says
    so of its port. Raises ServerFailed, with the end of its log, if that takes over START_S.
    """
    with log.open("wb") as output:
        # A session of its own: an interrupt from the keyboard reaches the bench alone, which
        # then ends its servers in order.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        server = ServerProcess(process.pid, port)
        _wait_until_ready(process, port, ready or partial(_answers, ready_path), log)
        yield server
    finally:
        _stop(process)


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, ready: Callable[[int], bool], log: Path
) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        if ready(port):
            return
        time.sleep(POLL_S)
    said = log.read_text(errors="replace")[-2000:]
    raise ServerFailed(f"{process.args!r} is not ready; it said:\n{said}")


def _answers(path: str, port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        raise ServerFailed(f"{process.args!r} did not end within {STOP_S:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session: only what it started itself
        process.wait()
