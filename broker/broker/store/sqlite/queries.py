"""The named statements of queries.sql, check.sql and part.sql."""

import re
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from typing import Any, TypeAlias

Query: TypeAlias = Callable[[str, tuple[Any, ...]], Awaitable[list[Any]]]
"""Runs a named statement with its parameters off the event loop, and returns the rows."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def _load(file: str) -> dict[str, str]:
    text = files("broker.store.sqlite").joinpath(file).read_text("utf-8")
    parts = _NAME.split(text)
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}


def migrations() -> Iterator[tuple[int, str]]:
    """Yield every migration's number and script, in order."""
    folder = files("broker.store.sqlite").joinpath("migrations")
    for script in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if script.name.endswith(".sql"):
            yield int(script.name.removesuffix(".sql")), script.read_text("utf-8")


SQL = _load("queries.sql")
CHECKS = _load("check.sql")
PARTS = _load("part.sql")
