"""What the pages tell of all cells, put together from each."""

from __future__ import annotations

from broker.history import Rates
from broker.overview import Overview, Room, Standing, of_all_cells
from broker.store.port import TopicStats

STATS = TopicStats(1, 100, 1, 1)
NOTHING = Rates([], [], [])


def standing(topic: str) -> Standing:
    """Return that of a subscription that is owed a message."""
    return Standing(topic, "mine", "active", 1, 2.0, 0, 0, 0, 0, False)


def test_cells_tell_together_of_every_topic() -> None:
    parts = {
        0: Overview({"a": STATS}, [standing("a")], Rates([1.0], [2.0], [0.0]), Room(10, 1, 7)),
        2: Overview({"c": STATS}, [standing("c")], Rates([3.0], [4.0], [1.0]), Room(20, 2, 5)),
    }

    assert of_all_cells(parts, 3) == Overview(
        {"a": STATS, "c": STATS},
        [standing("a"), standing("c")],
        Rates([4.0], [6.0], [1.0]),
        Room(30, 3, 5),
        missing=1,
    )


def test_rates_are_added_from_the_newest_back() -> None:
    """A cell that has come from another broker has fewer steps."""
    parts = {
        0: Overview({}, [], Rates([1.0, 2.0, 3.0], [], []), None),
        1: Overview({}, [], Rates([10.0], [], []), None),
        2: Overview({}, [], NOTHING, None),
    }

    assert of_all_cells(parts, 3).rates.published == [1.0, 2.0, 13.0]


def test_nothing_is_told_where_no_cell_is_known() -> None:
    assert of_all_cells({}, 2) == Overview({}, [], NOTHING, None, missing=2)
