"""A short run of the soak, as `make soak` starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from soak.kinds import KINDS
from support.broker_process import ROOT


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where its users do."""
    return subprocess.run(
        [sys.executable, "-m", "soak", *arguments],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_short_run_loses_nothing(tmp_path: Path) -> None:
    written = tmp_path / "report.json"
    ended = soak("--minutes", "0.2", "--rate", "100", "--json", str(written))
    assert ended.returncode == 0, ended.stdout + ended.stderr

    report = json.loads(written.read_text())
    assert len(report["counts"]) == len(KINDS) + 1  # the log and the stream, not the dead one
    assert all(each["expected"] > 100 for each in report["counts"])
    assert written.with_suffix(".txt").read_text() == ended.stdout


@pytest.mark.parametrize("arguments", [("--minutes", "0"), ("--rate", "x")])
def test_wrong_use_runs_nothing(arguments: tuple[str, ...]) -> None:
    assert soak(*arguments).returncode == 2
