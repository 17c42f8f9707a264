"""Which columns a terminal has room for, and how much of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.listing import GAP, Column, allotted, fitting

COLUMNS = (
    Column("name", 6),
    Column("state", rank=1),
    Column("note", 8, shrinks=True, rank=2),
    Column("data", 10, shrinks=True),
)
WIDTHS = (6, 8, 20, 40)


@pytest.mark.parametrize(
    ("width", "wanted"),
    [
        (1000, [(0, 6), (1, 8), (2, 20), (3, 40)]),
        (80, [(0, 6), (1, 8), (2, 20), (3, 40)]),
        (79, [(0, 6), (1, 8), (2, 20), (3, 39)]),
        (50, [(0, 6), (1, 8), (2, 20), (3, 10)]),
        (38, [(0, 6), (1, 8), (2, 8), (3, 10)]),
        (37, [(0, 6), (1, 8), (3, 19)]),
        (27, [(0, 6), (3, 19)]),
        (12, [(0, 6), (3, 4)]),
        (3, [(0, 1), (3, 1)]),
    ],
)
def test_last_columns_are_cut_short_and_ranked_ones_left_out(
    width: int, wanted: list[tuple[int, int]]
) -> None:
    shown = fitting(COLUMNS, WIDTHS, width)

    assert allotted(COLUMNS, shown, WIDTHS, width) == wanted


@given(
    columns=st.lists(
        st.builds(
            Column,
            st.text("abc", min_size=1, max_size=5),
            st.integers(0, 20),
            shrinks=st.booleans(),
            rank=st.integers(0, 3),
        ),
        min_size=1,
    ),
    width=st.integers(1, 300),
    data=st.data(),
)
def test_lines_are_never_wider_than_the_terminal(
    columns: list[Column], width: int, data: st.DataObject
) -> None:
    widths = [max(len(each.title), each.least, data.draw(st.integers(0, 60))) for each in columns]

    room = allotted(columns, fitting(columns, widths, width), widths, width)

    total = sum(each for _, each in room) + GAP * (len(room) - 1)
    assert total <= width or all(each == 1 for _, each in room)
    assert all(1 <= each <= widths[position] for position, each in room)
    assert {position for position, _ in room} >= {
        position for position, column in enumerate(columns) if not column.rank
    }
