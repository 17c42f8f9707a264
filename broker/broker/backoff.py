"""How long to wait before the next attempt."""

from collections.abc import Callable


def backoff_s(
    failed_attempts: int, min_backoff_s: float, max_backoff_s: float, random: Callable[[], float]
) -> float:
    """Return an exponential wait with full jitter, in seconds.

    `failed_attempts` is 1 after the first failure; `random` gives numbers in [0, 1).
    Source: M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    doublings = min(failed_attempts - 1, 64)
    return random() * min(max_backoff_s, min_backoff_s * 2.0**doublings)
