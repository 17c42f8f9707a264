"""The bench is run from the checkout and not installed; its programs may be missing."""

import shutil
import sys
from pathlib import Path

import pytest

# For this import only: on the path, the folder "broker" would hide the package of that name.
sys.path.insert(0, str(Path(__file__).parents[2]))
import bench  # noqa: F401

del sys.path[0]


@pytest.fixture
def wrk() -> None:
    """Skip where the loader is not installed."""
    _require("wrk")


@pytest.fixture
def nginx() -> None:
    """Skip where nginx is not installed."""
    _require("nginx")


def _require(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
