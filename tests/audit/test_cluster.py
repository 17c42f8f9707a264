"""Brokers share a store when each is ready, each cell has one owner, and none has too many."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from audit.cluster import evenly_shared


@pytest.mark.parametrize(
    ("found", "even"),
    [
        ([{0, 3}, {1}, {2}], True),
        ([{0, 3}, {1, 2}, ()], False),  # two more than another
        ([{0, 3}, {1}, ()], False),  # nobody has the last one
        ([{0, 3}, {1}, {2, 3}], False),  # two have one
        ([{0, 3}, {1, 2}, None], False),
    ],
)
def test_cells_are_shared(found: Sequence[Collection[int] | None], even: bool) -> None:
    assert evenly_shared(found, range(4)) is even


def test_one_cell_has_one_owner_and_the_others_none() -> None:
    assert evenly_shared([(), {0}, ()], range(1))
    assert not evenly_shared([(), (), ()], range(1))
