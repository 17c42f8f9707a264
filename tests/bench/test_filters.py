"""The measurement of filters measures filters that hold, one of each dialect."""

from __future__ import annotations

import pytest
from bench.filters import FILTERS, main


def test_each_dialect_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(loops=10, rounds=1) == 0
    told = capsys.readouterr().out
    assert told.count("µs") == len(FILTERS) + 1
    names = {next(iter(each)) for each in FILTERS}
    assert names == {"exact", "prefix", "suffix", "all", "any", "not", "sql"}
