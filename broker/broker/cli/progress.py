"""Signs of life of a command that takes its time."""

from collections.abc import Callable
from typing import TextIO

EVERY_S = 5.0


class Progress:
    """Writes a line every few seconds, so that a quick command writes none."""

    def __init__(self, to: TextIO, monotonic: Callable[[], float]) -> None:
        self._to = to
        self._monotonic = monotonic
        self._told_at = monotonic()

    def tell(self, what: str) -> None:
        """Hear how far it is."""
        now = self._monotonic()
        if now - self._told_at >= EVERY_S:
            self._told_at = now
            print(f"{what} …", file=self._to, flush=True)
