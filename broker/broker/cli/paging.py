"""Lists that come in pages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from broker.cli.arguments import Command
from broker.cli.connection import Connection
from broker.cli.documents import print_line, read
from broker.cli.listing import Cell, Column, Listing
from broker.cli.remote import Remote

PAGE = 500


def paging_options(function: Command) -> Command:
    """Take `--after`, `--limit` and `--all`."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="As many as there are."),
        click.option(
            "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many."
        ),
        click.option("--after", metavar="PLACE", help="Begin behind this one."),
    ):
        function = option(function)
    return function


class Pages:
    """The items of a list, page by page, as bytes of JSON; `next` is where more would begin."""

    def __init__(
        self,
        connection: Connection,
        path: str,
        member: str,
        query: Mapping[str, Any],
        limit: int | None,
    ) -> None:
        self.next: int | str | None = None
        self._connection = connection
        self._path = path
        self._member = member
        self._query = query
        self._left = limit

    def __iter__(self) -> Iterator[list[bytes]]:
        from msgspec import Raw
        from msgspec.json import decode

        after = self._query.get("after")
        while self._left is None or self._left > 0:
            limit = PAGE if self._left is None else min(PAGE, self._left)
            query = {**self._query, "after": after, "limit": limit}
            page = decode(self._connection.get(self._path, query).body, type=dict[str, Raw])
            items = [bytes(item) for item in decode(page[self._member], type=list[Raw])]
            after = self.next = decode(page["next"])
            if self._left is not None:
                self._left -= len(items)
            yield items
            if after is None:
                return


def show_pages(
    pages: Iterable[Sequence[bytes]],
    as_json: bool,
    columns: Sequence[Column],
    row: Callable[[Any], Sequence[Cell]],
) -> int:
    """Print items, for programs as lines of JSON; return how many there were."""
    listing = Listing(columns)
    count = 0
    for items in pages:
        count += len(items)
        if as_json:
            for item in items:
                print_line(item)
        else:
            listing.add([row(read(item)) for item in items])
    return count


def more(told: Remote, count: int, what: str, following: int | str | None) -> None:
    """Say on the standard error that there is nothing, or more than was shown."""
    if told.as_json:
        return
    if not count:
        click.echo(f"There are no {what}.", err=True)
    if following is not None:
        click.echo(f"There are more; read on with --after {following}.", err=True)
