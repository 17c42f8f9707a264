"""Seconds since the machine was started, the same in all its processes.

Unlike the monotonic clock it goes on while the machine is suspended: others do not wait for that.
"""

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # only Linux has the first


def boot_time() -> float:
    """Return the time."""
    return time.clock_gettime(_CLOCK)
