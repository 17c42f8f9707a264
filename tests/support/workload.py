"""How tests are shared out among the workers of `pytest -n`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# The bench's servers take ports that are kept for no worker; the stacks of containers are built
# once, and stand one at a time.
TOGETHER = ("tests/bench", "tests/e2e")


def unit_of(nodeid: str) -> str:
    """Return what a test is run together with, by one worker: its module, or a whole folder."""
    module = nodeid.partition("::")[0]
    return next((each for each in TOGETHER if PurePosixPath(module).is_relative_to(each)), module)


class Workload(LoadScopeScheduling):
    """A unit is run by one worker, in its order.

    Units are begun in the order of the tests: the last ones, the unit tests, are short, so that the
    workers end at much the same time.
    """

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
