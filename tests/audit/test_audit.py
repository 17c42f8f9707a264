"""Short runs of the audit, as `make audit` and `make audit-cluster` start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.stack import ROOT

MINUTES, SEED = "0.2", "1"
CLUSTER_MINUTES, CELLS = "0.2", "4"
PROMISES = 10  # the log, six subscriptions, three services
CLUSTER_PROMISES = 7  # no services
SUBSCRIPTIONS = slice(1, 7)


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where its users do."""
    return subprocess.run(
        [sys.executable, "-m", "audit", *arguments],
        cwd=ROOT / "tests",
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(300)
def test_short_run_keeps_every_promise(tmp_path: Path) -> None:
    report_path = tmp_path / "report.json"
    ended = audit("--minutes", MINUTES, "--seed", SEED, "--json", str(report_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr

    report = json.loads(report_path.read_text())
    assert report["clean"] is True
    assert sum(report["faults"].values()) > 0
    assert len(report["figures"]) == PROMISES
    assert all(each["expected"] > 0 for each in report["figures"])
    stored, *_ = report["figures"]
    assert all(each["expected"] == stored["came"] for each in report["figures"][SUBSCRIPTIONS])
    assert "All promises are kept." in ended.stdout


@pytest.mark.timeout(300)
def test_short_run_of_a_cluster_keeps_every_promise(tmp_path: Path) -> None:
    report_path = tmp_path / "report.json"
    options = ("--minutes", CLUSTER_MINUTES, "--seed", SEED, "--json", str(report_path))
    ended = audit("--cluster", "--cells", CELLS, *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr

    report = json.loads(report_path.read_text())
    assert report["clean"] is True
    assert sum(report["faults"].values()) > 0
    assert report["outages"]
    assert len(report["figures"]) == CLUSTER_PROMISES
    assert all(each["expected"] > 0 for each in report["figures"])
    assert "publish median" in ended.stdout


@pytest.mark.parametrize(
    "arguments", [("--minutes", "0"), ("--seed", "x"), ("--hours", "1"), ("--cells", "0")]
)
def test_wrong_use_runs_nothing(arguments: tuple[str, ...]) -> None:
    assert audit(*arguments).returncode == 2
