"""Small disks in memory, which only root may make."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A file system of its own, at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def free(self) -> int:
        """Return how many bytes are left."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def writable(self, yes: bool) -> None:
        """Take writes, or take none any more."""
        mode = "rw" if yes else "ro"
        subprocess.run(["mount", "-o", f"remount,{mode}", self.folder], check=True)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Disk]:
    """Make a disk of `size` bytes at a folder; skip the test where that is not possible."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "broker-test", folder]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no disk can be mounted here: there is no mount")
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
