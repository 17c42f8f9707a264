"""Leaving in a file what belongs to one cell of a store."""

import contextlib
import sqlite3
from pathlib import Path

from broker.partition import HOME, cell_of
from broker.store.sqlite.queries import PARTS


def leave_cell(file: Path, cell: int, cells: int) -> None:
    """Remove from a file that nobody uses all but one of so many cells.

    What belongs to no topic, or to one that has been dropped, is in the first. Rows of
    subscriptions that have been deleted are in none.
    """
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.create_function(
            "cell_of",
            1,
            lambda topic: HOME if topic is None else cell_of(topic, cells),
            deterministic=True,
        )
        connection.execute("BEGIN")
        for statement in PARTS.values():
            connection.execute(statement, {"cell": cell} if ":cell" in statement else {})
        connection.execute("COMMIT")
        connection.execute("VACUUM")
