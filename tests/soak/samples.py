"""What the broker uses at one moment: all its processes, and its files."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Event, Thread

import psutil


@dataclass(frozen=True, slots=True)
class Sample:
    """One look, `at_s` seconds after the first. Sizes are in bytes; `cpu_s` is all that was used.

    PSS counts a page that several processes share once.
    """

    at_s: float
    pss: int
    rss: int
    descriptors: int
    threads: int
    file: int
    wal: int
    cpu_s: float


MEASURES = tuple(each.name for each in fields(Sample) if each.name not in {"at_s", "cpu_s"})


def look(root: int, database: Path, at_s: float) -> Sample:
    """Look at a process with everything below it, and at a database."""
    top = psutil.Process(root)
    tree = [top, *top.children(recursive=True)]
    memory = [process.memory_full_info() for process in tree]
    times = [process.cpu_times() for process in tree]
    return Sample(
        at_s=at_s,
        pss=sum(each.pss for each in memory),
        rss=sum(each.rss for each in memory),
        descriptors=sum(process.num_fds() for process in tree),
        threads=sum(process.num_threads() for process in tree),
        file=database.stat().st_size,
        wal=database.with_name(database.name + "-wal").stat().st_size,
        cpu_s=sum(each.user + each.system for each in times),
    )


class Sampler:
    """Looks again and again from a thread of its own, and hands each sample on."""

    def __init__(
        self, root: int, database: Path, every_s: float, told: Callable[[Sample], None]
    ) -> None:
        self.samples: list[Sample] = []
        self._look = (root, database)
        self._every_s = every_s
        self._told = told
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="sampler")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stopping.is_set():
            with suppress(psutil.NoSuchProcess):  # one that has just been replaced
                sample = look(*self._look, time.monotonic() - started)
                self.samples.append(sample)
                self._told(sample)
            self._stopping.wait(self._every_s)
