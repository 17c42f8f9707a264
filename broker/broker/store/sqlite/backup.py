"""A copy of a store that a broker may be using meanwhile."""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path

from broker.store.port import Unusable
from broker.store.sqlite.connection import is_read_only, open_untouched
from broker.store.sqlite.queries import SQL

PROGRESS_INSTRUCTIONS = 200_000


class Exists(Exception):
    """There is something at the destination already."""


def backup(
    source: Path, destination: Path, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Copy a store as it is at one moment after the call; return the copy's size in bytes.

    The copy is one file, without the room that the source has left over. It appears under its name
    only when it is whole and on disk. `progress` is called now and then with the bytes written so
    far. Raises Exists, Unusable.
    """
    if destination.exists():
        raise Exists(f"{destination} exists already, and is not overwritten.")
    if not source.is_file():
        raise Unusable(f"There is no store {source}.")
    part = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise Unusable(f"{destination} cannot be written: {error.strerror}.") from None
    try:
        _copy(source, part, progress)
        _sync(part)
        _name(part, destination)
        _sync(destination.parent)
        return destination.stat().st_size
    finally:
        for suffix in ("", "-journal"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def _copy(source: Path, part: Path, progress: Callable[[int], None]) -> None:
    try:
        alone = is_read_only(source.parent)
        with contextlib.closing(open_untouched(source, alone=alone)) as connection:
            connection.execute(SQL["log_id"]).fetchone()
            connection.set_progress_handler(
                lambda: progress(part.stat().st_size), PROGRESS_INSTRUCTIONS
            )
            connection.execute("VACUUM INTO ?", (str(part),))
    except sqlite3.Error as error:
        raise Unusable(f"{source} could not be copied: {error}.") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(part: Path, destination: Path) -> None:
    """Give the copy its name, unless that has been taken meanwhile."""
    try:
        os.link(part, destination)
    except FileExistsError:
        raise Exists(f"{destination} exists already, and is not overwritten.") from None
    except OSError:  # a file system without links
        part.rename(destination)
