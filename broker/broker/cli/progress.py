"""Signs of life of a command that takes its time, on the standard error."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TextIO

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


@contextmanager
def signs_of_life(begin: str) -> Iterator[Callable[[str], None]]:
    """Yield what hears how far it is: on a terminal one line that changes, else some lines."""
    if not sys.stderr.isatty():
        yield Progress(sys.stderr, time.monotonic).tell
        return
    with spinner(begin) as tell:
        yield tell


@contextmanager
def spinner(begin: str) -> Iterator[Callable[[str], None]]:
    """Show that something goes on, while it does; on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console
    from rich.progress import Progress as Display
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(begin, total=None)
        yield lambda what: display.update(task, description=what)


@contextmanager
def bar(begin: str, file: IO[bytes]) -> Iterator[Callable[[str], None]]:
    """Show how far a file has been read, on a terminal only; how long it is may be unknown."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = BarColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn()
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        size = os.fstat(file.fileno()).st_size if file.seekable() else 0
        task = display.add_task(begin, total=size or None)

        def tell(what: str) -> None:
            display.update(task, description=what, completed=file.tell() if size else 0)

        yield tell
