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
        ("tests/e2e/test_story.py::test_a[compose]", TOGETHER),
        ("tests/e2e/test_cluster.py::test_b", TOGETHER),
    ],
)
def test_tests_of_a_module_stay_together_and_those_of_the_stacks_too(
    nodeid: str, unit: str
) -> None:
    assert unit_of(nodeid) == unit


def test_folder_of_the_stacks_is_there() -> None:
    assert (ROOT / TOGETHER / "compose_stack.py").exists()
