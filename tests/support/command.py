"""The `broker` command line: commands that end, one that goes on, and one at a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from support.broker_process import BROKER
from support.eventually import eventually

END_S = 60.0


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings of the broker and no others."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
    return ours | settings


def run_broker(
    *arguments: str | Path, stdin: str | bytes = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, without a terminal."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [BROKER, *arguments],
        env=clean_environment(settings),
        input=given,
        capture_output=True,
        timeout=END_S,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


class RunningCommand:
    """A command that goes on until it is ended, with what it has printed so far."""

    def __init__(self, *arguments: str | Path, **settings: str) -> None:
        self._process = subprocess.Popen(
            [BROKER, *arguments],
            env=clean_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[str] = []
        self.notes: list[str] = []
        self._threads = [
            threading.Thread(target=_collect, args=(stream, to), daemon=True)
            for stream, to in (
                (self._process.stdout, self.lines),
                (self._process.stderr, self.notes),
            )
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> RunningCommand:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self.wait()

    def interrupt(self) -> int:
        """Press Ctrl-C, and give the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends, and give the exit code."""
        code = self._process.wait(END_S)
        for thread in self._threads:
            thread.join(END_S)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return code


def _collect(stream: Iterable[bytes] | None, to: list[str]) -> None:
    for line in stream or ():
        to.append(line.decode().rstrip("\n"))  # noqa: PERF401 each is seen as it comes


class Terminal:
    """A command at a terminal of its own, which shows all that it prints."""

    def __init__(self, *arguments: str | Path, columns: int = 100, **settings: str) -> None:
        self._shown = bytearray()
        ours, theirs = pty.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = clean_environment({"TERM": "xterm-256color", **settings})
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [BROKER, *arguments],
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._ours = ours
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def shown(self) -> str:
        """Everything that it has shown so far."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def type(self, line: str, after: str) -> None:
        """Type a line once the terminal shows something."""
        eventually(lambda: after in self.shown)
        os.write(self._ours, line.encode() + b"\n")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self.wait()
        os.close(self._ours)

    def wait(self) -> int:
        """Wait until it ends, and give the exit code."""
        code = self._process.wait(END_S)
        self._thread.join(END_S)
        return code

    def _read(self) -> None:
        while True:
            try:
                self._shown += os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                return
