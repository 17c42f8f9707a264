"""How the tests are shared out among workers."""

from __future__ import annotations

import pytest

from support.broker_process import ROOT
from support.workload import TOGETHER, unit_of


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/unit/test_rate.py::test_a[1]", "tests/unit/test_rate.py"),
        ("tests/unit/test_rate.py::test_b[x::y]", "tests/unit/test_rate.py"),
        ("tests/e2e/test_story.py::test_a[compose]", "tests/e2e"),
        ("tests/e2e/test_cluster.py::test_b", "tests/e2e"),
        ("tests/bench/test_run.py::test_a", "tests/bench"),
    ],
)
def test_tests_of_a_module_stay_together_and_those_of_some_folders(nodeid: str, unit: str) -> None:
    assert unit_of(nodeid) == unit


@pytest.mark.parametrize("folder", TOGETHER)
def test_folder_whose_tests_stay_together_is_there(folder: str) -> None:
    assert (ROOT / folder / "conftest.py").exists()
