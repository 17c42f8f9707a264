"""A slow disk answers late for as long as it is one, and no longer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from audit import slow_disk
from audit.cluster import Cluster
from audit.fault_log import FaultLog
from audit.pulse import Pulse
from audit.slow_disk import SYNCS, WRITES, refusal
from audit.webhooks import Webhooks

# Answers each line of its input, once it is on the disk, with the seconds that took.
KEEPER = """
import os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for line in sys.stdin:
    began = time.monotonic()
    os.pwrite(file, line.encode(), 0)
    os.fsync(file)
    print(time.monotonic() - began, flush=True)
"""
LATE_S = 0.2


class Keeper:
    """A process that keeps what it is given."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def ask(self) -> None:
        """Have it keep a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("kept\n")
        self._process.stdin.flush()

    def took_s(self) -> float:
        """Wait for its answer."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A new one, where disks can be made slow."""
    if (why := refusal()) is not None:
        if os.environ.get("CI") == "true":
            raise OSError(why)
        pytest.skip(why)
    command = [sys.executable, "-c", KEEPER, str(tmp_path / "kept")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Keeper(process)
        process.kill()


def test_syncs_answer_late(keeper: Keeper) -> None:
    with slow_disk.slow_disk([keeper.pid], SYNCS, LATE_S):
        keeper.ask()

        assert keeper.took_s() >= LATE_S


def test_writes_answer_late_beside_syncs(keeper: Keeper) -> None:
    with slow_disk.slow_disk([keeper.pid], WRITES, LATE_S):
        keeper.ask()

        assert keeper.took_s() >= 2 * LATE_S


def test_end_of_it_lets_go_at_once_of_what_is_held(keeper: Keeper) -> None:
    with slow_disk.slow_disk([keeper.pid], SYNCS, late_s=3600.0):
        keeper.ask()

    assert keeper.took_s() < 3600.0


def test_process_that_is_gone_has_no_disk(keeper: Keeper) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()

    with (
        pytest.raises(OSError, match="No such process"),
        slow_disk.slow_disk([gone.pid], SYNCS, LATE_S),
    ):
        pass


def test_process_that_is_gone_is_in_nobodys_way(keeper: Keeper) -> None:
    with subprocess.Popen(["true"]) as gone:
        os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
        with slow_disk.slow_disk([gone.pid, keeper.pid], SYNCS, LATE_S):
            keeper.ask()

            assert keeper.took_s() >= LATE_S


def test_cluster_whose_disks_cannot_be_slow_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_disk, "STRACE", "no-such-program")
    log = FaultLog(tmp_path / "faults.log")
    with closing(Webhooks(1, tmp_path)) as webhooks, closing(Cluster(1, tmp_path)) as cluster:
        cluster.storm(1.0, webhooks, Pulse([], webhooks.ledger), log)

    assert log.remarks == [
        "No disk was slow: there is no no-such-program (apt-get install no-such-program)."
    ]


def test_machine_without_the_program_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_disk, "STRACE", "no-such-program")

    assert refusal() == "there is no no-such-program (apt-get install no-such-program)"
