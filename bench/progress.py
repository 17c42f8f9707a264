"""What a run says while it is under way."""

import sys
import time


class Progress:
    """Lines on standard error, each with the minutes since the start."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()

    def elapsed_s(self) -> float:
        """Say how long the run has taken so far."""
        return time.monotonic() - self._started_at

    def say(self, text: str) -> None:
        """Tell one thing."""
        minutes, seconds = divmod(round(self.elapsed_s()), 60)
        print(f"{minutes:3}:{seconds:02}  {text}", file=sys.stderr, flush=True)

    def step(self, text: str) -> None:
        """Tell a part of something that was told before."""
        self.say(f"    {text}")
