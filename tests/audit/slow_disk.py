"""Disks that answer late: strace holds back what a process is to hear of its writes and syncs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.eventually import eventually

STRACE = "strace"
# What SQLite and the NATS servers sync with.
SYNCS = ("fsync", "fdatasync")
# Three NATS servers sync so seldom that a disk is slow to them only by its writes.
WRITES = (*SYNCS, "pwrite64")
END_S = 10.0


def refusal() -> str | None:
    """Say why no disk can be made slow here, if so."""
    if shutil.which(STRACE) is None:
        return f"there is no {STRACE} (apt-get install {STRACE})"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            with slow_disk([bystander.pid], SYNCS, late_s=0.001):
                return None
        except OSError as error:
            return str(error)
        finally:
            bystander.kill()


@contextmanager
def slow_disk(pids: Sequence[int], calls: Sequence[str], late_s: float) -> Iterator[None]:
    """Have each of these calls of these processes, and of their children, return so much later.

    On leaving, those held back return at once. Raises OSError where that is not allowed, or none of
    the processes is left.
    """
    names = ",".join(calls)
    command = [
        STRACE,
        "--follow-forks",
        "--quiet=attach,exit",
        "--output=/dev/null",
        f"--trace={names}",
        f"--inject={names}:delay_exit={round(late_s * 1e6)}",
        *(f"--attach={pid}" for pid in pids),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            eventually(lambda: tracer.poll() is not None or _are_traced(pids))
            if tracer.poll() is not None:
                assert tracer.stderr is not None
                raise OSError(tracer.stderr.read().strip())
            yield
        finally:
            # SIGTERM has it let go of all that it holds.
            tracer.terminate()
            tracer.wait(END_S)


def _are_traced(pids: Sequence[int]) -> bool:
    """Say whether somebody traces all of them that are left, and one at least."""
    found = [_is_traced(pid) for pid in pids]
    return any(found) and False not in found


def _is_traced(pid: int) -> bool | None:
    """Say whether somebody traces a process, None where there is none, or what nobody reaped."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    if "\nState:\tZ" in status:
        return None
    return "\nTracerPid:\t0\n" not in status
