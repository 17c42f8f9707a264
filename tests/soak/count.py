"""What was published, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from soak.kinds import KINDS, STREAM


@dataclass(frozen=True, slots=True)
class Count:
    """How many messages were to come to one who gets them, and how many distinct ones came."""

    name: str
    expected: int
    came: int
    again: int = 0
    lossy: bool = False

    @property
    def kept(self) -> bool:
        """Whether nothing is lost, nor comes again where it must not."""
        if self.lossy:
            return self.came <= self.expected and self.again == 0
        return self.came == self.expected


def counts(
    published: int, even: int, last_sequence: int, came: Mapping[str, Mapping[str, int]]
) -> list[Count]:
    """Hold what came, by subscription, against what was answered to the publisher."""
    found = [Count("the log", published, last_sequence)]
    for kind in KINDS:
        if kind.dead:
            continue
        told = came[kind.name]
        expected = even if kind.even_only else published
        distinct = told["distinct"]
        if kind.name == "failing":
            distinct += came["given-up"]["distinct"]
        found.append(Count(kind.name, expected, distinct, told["again"], kind.lossy))
    stream = came[STREAM]
    return [*found, Count(STREAM, published, stream["distinct"], stream["again"])]
