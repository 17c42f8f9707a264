"""Reading a document from a file that something else is writing, or replacing."""

import contextlib
import sqlite3
from pathlib import Path

import msgspec

from broker.store.port import Document
from broker.store.sqlite.queries import SQL


def document_in(path: Path, key: str) -> Document | None:
    """Return a document as it is in the file now, None where there is none, or no file yet."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.1)
        ) as connection:
            row = connection.execute(SQL["document_body"], (key,)).fetchone()
    except sqlite3.Error:
        return None  # it is made anew at the moment, or has no tables yet
    return None if row is None else msgspec.json.decode(row[0], type=dict)
