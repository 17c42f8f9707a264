"""Wait for something to become true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


def eventually(look: Callable[[], T | None], *, within_s: float = 15.0) -> T:
    """Return what `look` gives once it is truthy.

    A failed assertion inside `look` counts as "not yet". At the deadline the last one is raised,
    or an AssertionError that shows the last value.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            value = look()
            failure = AssertionError(f"still {value!r} after {within_s} s")
            if value:
                return value
        except AssertionError as error:
            failure = error

        if time.monotonic() > deadline:
            raise failure
        time.sleep(POLL_S)
