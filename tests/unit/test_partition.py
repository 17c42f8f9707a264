"""Which part of the store a topic is in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.partition import cell_of


@pytest.mark.parametrize(("topic", "cell"), [("orders", 2), ("a", 3), ("b", 5), ("d", 0)])
def test_topic_stays_in_its_cell_for_ever(topic: str, cell: int) -> None:
    assert cell_of(topic, 6) == cell


@given(st.text(), st.integers(1, 64))
def test_every_name_has_one_of_the_cells(topic: str, cells: int) -> None:
    assert 0 <= cell_of(topic, cells) < cells
    assert cell_of(topic, 1) == 0
