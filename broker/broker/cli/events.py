"""Messages as people read them: one a line, or one whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from broker.cli.listing import Cell, Column, print_fields, print_text
from broker.cli.rendering import (
    NOTHING,
    data_of,
    moment,
    printable,
    said,
    shortened,
    whole_data_of,
)

COLUMNS = (
    Column("time", 24, rank=3),
    Column("sequence", right=True),
    Column("type", 8, shrinks=True, rank=2),
    Column("key", 6, shrinks=True, rank=1),
    Column("data", 16, shrinks=True),
)
_DATA = ("data", "data_base64")


def row(event: Mapping[str, Any]) -> Sequence[Cell]:
    """Render an event in one line."""
    return (
        (moment(event.get("time")), "dim"),
        NOTHING if event["sequence"] is None else str(event["sequence"]),
        (printable(str(event["type"])), "cyan"),
        printable(str(event.get("partitionkey", NOTHING))),
        shortened(data_of(event)),
    )


def print_event(event: Mapping[str, Any]) -> None:
    """Print the attributes of an event, then its data."""
    print_fields(
        (printable(name), said(value if value is None or name != "sequence" else str(value)))
        for name, value in event.items()
        if name not in _DATA
    )
    print_text("\n" + whole_data_of(event))
