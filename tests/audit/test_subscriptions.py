"""Topics are all over the cells of a store."""

from __future__ import annotations

import pytest

from audit.subscriptions import TOPIC, topics_of
from broker.partition import cell_of


@pytest.mark.parametrize("cells", [1, 2, 6, 64])
def test_each_cell_has_a_topic(cells: int) -> None:
    assert [cell_of(topic, cells) for topic in topics_of(cells)] == list(range(cells))


def test_one_cell_has_the_topic_of_the_services() -> None:
    assert topics_of(1) == [TOPIC]
