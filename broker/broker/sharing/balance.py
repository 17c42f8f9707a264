"""Which cell goes from which broker to which, so that all have about as many."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from broker.partition import HOME


@dataclass(frozen=True, slots=True)
class HandOver:
    """A cell goes from its owner to another broker. Brokers are told apart by their URLs."""

    cell: int
    giver: str
    follower: str


def next_hand_over(owners: Sequence[str | None], able: Mapping[str, Set[int]]) -> HandOver | None:
    """Say what is to be handed over next; nothing while a cell has no owner that is alive.

    `owners` are those of the cells, in order. `able` has every broker that is alive and goes on,
    and the cells for which it stands by and could take over at once. Whoever knows the same says
    the same, and so each broker need hand over no more than what it is itself to give.
    """
    if any(owner not in able for owner in owners):
        return None
    counts = Counter(owners)
    giver = max(able, key=lambda each: (counts[each], each), default=None)
    # The first stays where it is, for it is the home of more than its topics. Who gives has two.
    given = [cell for cell, owner in enumerate(owners) if owner == giver and cell != HOME]
    for follower in sorted(able, key=lambda each: (counts[each], each)):
        if giver is None or counts[giver] - counts[follower] < 2:
            return None
        ready = [cell for cell in given if cell in able[follower]]
        if ready:
            return HandOver(max(ready), giver, follower)
    return None


def heirs_of(
    cells: Iterable[int],
    leaving: str,
    owners: Sequence[str | None],
    able: Mapping[str, Set[int]],
) -> dict[int, str]:
    """Say who is to follow a broker that leaves its cells; nobody where nobody is able."""
    counts = Counter(owner for owner in owners if owner is not None)
    heirs: dict[int, str] = {}
    for cell in cells:
        ready = [each for each in able if each != leaving and cell in able[each]]
        if ready:
            heirs[cell] = min(ready, key=lambda each: (counts[each], each))
            counts[heirs[cell]] += 1
    return heirs
