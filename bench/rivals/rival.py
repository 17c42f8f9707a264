"""What the bench needs to know of another broker."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.loader import LoadOutcome
from bench.process_tree import Memory, cpu_seconds, memory
from bench.server_process import ServerProcess

QUEUE = "bench"  # the stream or queue that all messages go to


@dataclass(frozen=True, slots=True)
class RivalServer:
    """A running server of another make, and the folder that it keeps its data in."""

    process: ServerProcess
    data: Path

    def cpu_seconds(self) -> float:
        """Sum the processor time that it and its children have used."""
        return cpu_seconds(self.process.pid)

    def memory(self) -> Memory:
        """Sum the memory that it and its children hold."""
        return memory(self.process.pid)

    def database_bytes(self) -> int:
        """Sum its files."""
        return sum(file.stat().st_size for file in self.data.rglob("*") if file.is_file())


def find_program(name: str) -> str | None:
    """Look for a program beside this interpreter, and on the path."""
    places = (os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath))
    return shutil.which(name, path=os.pathsep.join(places))


@dataclass(frozen=True, slots=True)
class Rival:
    """Another broker, as durable as this one: no answer before the disk has the message.

    `version` is a command that tells its version. `running` starts it in a folder with an empty
    queue, `count` asks the server at a port how many messages that holds. `load` takes a port,
    connections and messages: each connection sends its next message after the answer to its last.
    """

    name: str
    title: str
    program: str
    install: str
    version: tuple[str, ...]
    settings: str
    running: Callable[[Path], AbstractContextManager[RivalServer]]
    count: Callable[[int], int]
    load: Callable[[int, int, int], LoadOutcome]

    def missing(self) -> str | None:
        """Say what to do where its program is not installed."""
        if find_program(self.program) is not None:
            return None
        return f"{self.title} is left out: there is no {self.program} ({self.install})."
