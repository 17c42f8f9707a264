"""What was done to whom, and when: by it a run can be understood afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from audit.outages import Struck


class FaultLog:
    """Lines with the time since the log was begun, in a file; safe to write from any thread."""

    def __init__(self, path: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        self.counts: Counter[str] = Counter()
        self.surprises: list[str] = []
        self.remarks: list[str] = []
        self.strikes: list[Struck] = []
        self._path = path
        self._lock = Lock()
        self._began_at = time.monotonic()

    def elapsed_s(self) -> float:
        """Tell how long ago it was begun."""
        return time.monotonic() - self._began_at

    def write(self, line: str, counted: str | None = None) -> None:
        """Write a line, and count it under this name."""
        with self._lock, self._path.open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')}  +{self.elapsed_s():8.3f} s  {line}\n")
            if counted is not None:
                self.counts[counted] += 1

    def note(self, struck: Struck) -> None:
        """Write down how long there was no service."""
        self.write(f"{struck}")
        self._tell(f"{struck}")
        with self._lock:
            self.strikes.append(struck)

    def remark(self, line: str) -> None:
        """Say what whoever reads the report has to know."""
        self.write(line)
        self._tell(line)
        with self._lock:
            self.remarks.append(line)

    def surprise(self, line: str) -> None:
        """Write down something that should not have happened."""
        self.write(f"SURPRISE {line}")
        with self._lock:
            self.surprises.append(line)
