"""A drain is cut into slices, a disk without room is told, and the whole of it works when small."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from bench.backlog import check_room, measure_backlog, second_half_to_first, slice_rates
from bench.finding import LeftOut
from bench.scale import QUICK

Usage = namedtuple("Usage", "total used free")


def test_even_drain_has_even_slices() -> None:
    assert slice_rates([(100.0, 0), (110.0, 1000)], 4) == pytest.approx([100.0] * 4)


def test_slices_are_taken_between_samples() -> None:
    samples = [(0.0, 0), (1.0, 600), (3.0, 1000)]  # 600/s, then 200/s
    assert slice_rates(samples, 2) == pytest.approx((600.0, 500 / (100 / 600 + 400 / 200)))


def test_drain_that_slows_down_has_a_slope() -> None:
    assert second_half_to_first([100.0, 100.0, 100.0, 100.0]) == 1.0
    assert second_half_to_first([100.0, 100.0, 50.0, 50.0]) == 0.5


def test_disk_without_room_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 5 * 10**9))
    check_room(tmp_path, 1_000_000)
    with pytest.raises(LeftOut, match=r"needs 11\.0 GB of disk, and 5\.0 GB are free"):
        check_room(tmp_path, 10_000_000)


@pytest.mark.usefixtures("wrk", "nginx")
def test_backlog_is_built_up_and_drained(tmp_path: Path) -> None:
    said: list[str] = []
    found = measure_backlog(tmp_path, replace(QUICK, backlog=2000), said.append)
    rates, slices = found.tables
    assert rates.rows[0][0] == "0"
    assert len(slices.rows[0]) == 11
    assert {chart.name for chart in found.charts} == {"backlog", "draining"}
    assert "draining" in said
