"""What the figures were taken on."""

import os
import platform
import re
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.percentiles import NS_PER_MS, percentile
from bench.rivals.known import RIVALS
from bench.rivals.rival import find_program

PACKAGES = ("broker", "gunicorn", "uvloop", "msgspec", "pycurl", "flask")
SYNCS = 200
PAGE = bytes(4096)


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, disk and versions.

    `load` is how many processes were running in the minute before the bench; `sync_ms` the median
    of a 4 KiB append with fdatasync.
    """

    processor: str
    cores: int
    memory_bytes: int
    kernel: str
    load: float
    sync_ms: float
    python: str
    sqlite: str
    wrk: str
    nginx: str
    packages: dict[str, str]
    rivals: dict[str, str]


def describe_machine(folder: Path) -> Machine:
    """Look at this machine; the disk is that of the folder."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        load=round(os.getloadavg()[0], 2),
        sync_ms=round(median_sync_ns(folder) / NS_PER_MS, 3),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        wrk=_first_version(["wrk", "-v"]),
        nginx=_first_version(["nginx", "-v"]),
        packages={name: version(name) for name in PACKAGES},
        rivals={
            rival.title: _first_version(rival.version)
            for rival in RIVALS
            if rival.missing() is None
        },
    )


def median_sync_ns(folder: Path) -> int:
    """Time appends that are on disk when they return."""
    times_ns = []
    path = folder / "sync-probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(PAGE)
            started_ns = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            times_ns.append(time.perf_counter_ns() - started_ns)
    path.unlink()
    return percentile(sorted(times_ns), 0.5)


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return platform.machine() if found is None else found[1]


def _first_version(command: Sequence[str]) -> str:
    program, *arguments = command
    found_at = find_program(program) or program
    done = subprocess.run([found_at, *arguments], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return "unknown" if found is None else found[0]
