"""Failed attempts as people read them."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from broker.cli.listing import Column, Listing
from broker.cli.rendering import NOTHING, moment, printable, shortened

COLUMNS = (
    Column("attempt", right=True),
    Column("time", 24, rank=3),
    Column("status", right=True),
    Column("ms", right=True, rank=2),
    Column("error", 10, shrinks=True),
    Column("answer", 10, shrinks=True, rank=1),
)


def print_attempts(attempts: Sequence[Mapping[str, Any]]) -> None:
    """Print failed attempts, the oldest first."""
    Listing(COLUMNS).add(
        [
            (
                str(each["attempt"]),
                moment(each["at"]),
                NOTHING if each["status"] is None else str(each["status"]),
                f"{each['duration_ms']:,.0f}",
                printable(each["error"] or NOTHING),
                shortened(printable(each["answer"] or NOTHING)),
            )
            for each in attempts
        ]
    )
    if not attempts:
        click.echo("No attempt has failed.", err=True)
