"""JSON, printed for programs as it came."""

import sys
from typing import Any


def print_document(body: bytes) -> None:
    """Print an answer, if it has anything in it."""
    if body:
        print_line(body)


def print_line(document: bytes) -> None:
    """Print a JSON document in one line. Line ends in it are outside of its strings."""
    line = document.rstrip().replace(b"\r", b" ").replace(b"\n", b" ")
    sys.stdout.buffer.write(line + b"\n")


def read(document: bytes) -> Any:
    """Read a JSON document."""
    from msgspec.json import decode

    return decode(document)
