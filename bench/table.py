"""A table of cells that are already words."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """The head and the rows; every row has as many cells as the head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_text(self) -> str:
        """Align the first column left and the others right; nothing for no rows."""
        if not self.rows:
            return ""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [self.head, ["-" * width for width in widths], *self.rows]
        return "\n".join(_line(cells, widths) for cells in lines)

    def to_markdown(self) -> str:
        """Write it for a Markdown page; nothing for no rows."""
        if not self.rows:
            return ""
        rule = ["---", *["--:"] * (len(self.head) - 1)]
        lines = [self.head, rule, *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(aligned).rstrip()
