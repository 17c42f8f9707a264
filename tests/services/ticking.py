"""A clock that stands still until a test moves it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Clock:
    """Epoch seconds; call it to read it."""

    now: float

    def __call__(self) -> float:
        return self.now
