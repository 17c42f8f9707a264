"""The clock of leases."""

from __future__ import annotations

import sys
import time

import pytest

from broker.boot_time import boot_time


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a clock that counts suspension")
def test_it_counts_while_the_machine_is_suspended() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = boot_time()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)
