"""Hostile inputs, taken apart: bytes as a fuzzer makes them, and as people can write seeds."""

from __future__ import annotations

from collections.abc import Sequence

Lines = list[tuple[str, str]]


def head_and_body(data: bytes) -> tuple[Lines, bytes]:
    """Read lines of `name: value` up to an empty one, and the bytes behind it.

    Names come in lower case and values without the space around them, as from an HTTP server.
    """
    head, _, body = data.partition(b"\n\n")
    lines = [line.partition(":") for line in head.decode("latin-1").split("\n")]
    return [(name.strip().lower(), value.strip(" \t\r")) for name, _, value in lines], body


def as_sent(lines: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Write header lines as the broker gets them from its HTTP server."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]


def text_of(data: bytes) -> str:
    """Read any bytes as text, in which no surrogate stands alone."""
    return data.decode(errors="replace")
