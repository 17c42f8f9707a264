"""Tables for people: in colour on a terminal and no wider than it, plain and whole elsewhere."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

# A text, or one with a style of rich's.
Cell: TypeAlias = str | tuple[str, str]

GAP = 2
KEPT = 24
_WIDE = 1_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `least` is the width below which it is of no use.

    Where a terminal is too narrow, columns of the highest rank are left out first, those of rank 0
    never. One that `shrinks` is cut short before that, with an ellipsis.
    """

    title: str
    least: int = 0
    right: bool = False
    shrinks: bool = False
    rank: int = 0


class Listing:
    """Prints rows as they come, below one header. Columns get wider and never narrower again."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._widths = [max(len(each.title), each.least) for each in columns]
        self._shown: list[int] = []

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Print some rows."""
        if not rows:
            return
        from rich.table import Table
        from rich.text import Text

        console = stdout()
        widths = self._grown(rows)
        first = not self._shown
        if first:
            self._shown = fitting(self._columns, widths, console.width)
        table = Table(
            box=None,
            show_header=first,
            pad_edge=False,
            padding=(0, GAP, 0, 0),
            header_style="bold",
        )
        for position, width in allotted(self._columns, self._shown, widths, console.width):
            column = self._columns[position]
            table.add_column(
                column.title.upper(),
                justify="right" if column.right else "left",
                overflow="ellipsis",
                no_wrap=True,
                width=width,
            )
        for row in rows:
            table.add_row(*(Text(*_styled(row[position])) for position in self._shown))
        write(console, table)

    def _grown(self, rows: Sequence[Sequence[Cell]]) -> list[int]:
        """Return how wide the columns have to be; the next rows will be below these."""
        from rich.cells import cell_len

        widths = []
        for position, column in enumerate(self._columns):
            longest = max(cell_len(_plain(row[position])) for row in rows)
            widths.append(max(self._widths[position], longest))
            kept = min(longest, KEPT) if column.shrinks else longest
            self._widths[position] = max(self._widths[position], kept)
        return widths


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return which columns to show where the terminal is that wide, by their positions."""
    shown = list(range(len(columns)))
    while shown:
        needed = sum(_floor(columns[each], widths[each]) + GAP for each in shown) - GAP
        worst = max(shown, key=lambda each: columns[each].rank)
        if needed <= width or not columns[worst].rank:
            break
        shown.remove(worst)
    return shown


def allotted(
    columns: Sequence[Column], shown: Sequence[int], widths: Sequence[int], width: int
) -> list[tuple[int, int]]:
    """Return the columns to show with their widths; the last ones are cut short first."""
    room = dict(zip(shown, (widths[each] for each in shown), strict=True))
    excess = sum(room.values()) + GAP * (len(shown) - 1) - width
    for floor in (_floor, _one):
        for each in reversed(shown):
            cut = max(0, min(excess, room[each] - floor(columns[each], room[each])))
            room[each] -= cut
            excess -= cut
    return list(room.items())


def _floor(column: Column, width: int) -> int:
    return max(len(column.title), column.least) if column.shrinks else width


def _one(_: Column, __: int) -> int:
    return 1


def print_fields(fields: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values, one below the other."""
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(Text(name, "bold"), Text(*_styled(value)))
    write(console, table)


def print_text(text: str) -> None:
    """Print lines as they are."""
    stdout().print(text, soft_wrap=True)


def write(console: "Console", what: object) -> None:
    """Print, without the spaces at the end of lines that only fill a table."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    for line in captured.get().splitlines():
        print(line.rstrip())


@cache
def stdout() -> "Console":
    """Return the standard output; it is as wide as the terminal, or without limit."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else _WIDE, markup=False, highlight=False, emoji=False)


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _styled(cell: Cell) -> tuple[str, str]:
    return (cell, "") if isinstance(cell, str) else cell
