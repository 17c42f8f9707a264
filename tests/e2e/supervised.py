"""A command that is started again whenever it ends, as a container with `restart:` is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread

import psutil

from e2e.stack import ROOT
from support.eventually import eventually

RESTART_S = 0.1
STOP_S = 30.0


class Supervised:
    """A shell command in a process group of its own; when it ends, its whole group ends.

    Everything it prints goes to `log_path`, over all its starts.
    """

    def __init__(self, name: str, command: str, log_path: Path) -> None:
        self._name = name
        self._command = command
        self._log_path = log_path
        self._lock = Lock()  # held to start, signal or reap: no signal meets another process
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it, unless it is started."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = Thread(target=self._run, args=(environment,), name=self._name)
            self._thread.start()

    def stop(self) -> None:
        """Ask it to end, and wait. Raises TimeoutError if it had to be killed."""
        if not self._end(signal.SIGTERM):
            self.close()
            raise TimeoutError(f"{self._name} did not stop within {STOP_S} s")

    def close(self) -> None:
        """Kill it for good."""
        self._end(signal.SIGKILL)

    def kill(self) -> None:
        """Kill -9 its whole group, as soon as it has one; return once that is dead."""
        killed = eventually(self._kill_group)
        eventually(lambda: self._process is not killed)  # its thread reaps it, and nobody else may

    def send_signal(self, number: signal.Signals) -> None:
        """Signal its whole group, if it has one."""
        with self._lock:
            if self._process is not None:
                os.killpg(self._process.pid, number)

    def members(self) -> list[psutil.Process]:
        """List the processes below its first one, none while it has ended."""
        with self._lock, suppress(psutil.NoSuchProcess):
            if self._process is not None:
                return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def log(self) -> str:
        """Everything it has printed so far."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def _run(self, environment: Mapping[str, str]) -> None:
        while not self._stopping.is_set():
            process = self._spawn(environment)
            if process is not None:
                self._await_end(process)
            self._stopping.wait(RESTART_S)

    def _spawn(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        with self._lock, self._log_path.open("ab") as log:
            if not self._stopping.is_set():
                self._process = subprocess.Popen(
                    ["sh", "-c", self._command],
                    env=environment,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            return self._process

    def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            os.killpg(process.pid, signal.SIGKILL)  # as a container's end takes what is left
            process.wait()
            self._process = None

    def _kill_group(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._process is not None:
                os.killpg(self._process.pid, signal.SIGKILL)
            return self._process

    def _end(self, number: signal.Signals) -> bool:
        """Signal its first process, as an engine does; say whether all has ended in time."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                os.kill(self._process.pid, number)
        if self._thread is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                return False
            self._thread = None
        return True
