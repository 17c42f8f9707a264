"""How the receiver answers: a mood a subscription, and what one request meets of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from audit.faults import Kind
from audit.subscriptions import TIMEOUT_S

LATENESS_S = (0.02, 0.6)
RETRY_AFTER_S = (0, 1, 2)
TAKEN_ALL_THE_SAME = 0.5  # so many of the requests that get a bad answer have had their effect


@dataclass(frozen=True, slots=True)
class Mood:
    """What is wrong with this share of an endpoint's answers."""

    kind: Kind
    share: float


@dataclass(frozen=True, slots=True)
class Reaction:
    """What becomes of one request.

    `takes` says whether what it brings takes effect, whatever is answered; `refused` are the
    positions of a batch that are handed back, and take none.
    """

    status: int = 200
    takes: bool = True
    delay_s: float = 0.0
    retry_after_s: int | None = None
    hang_up: bool = False
    refused: Sequence[int] = ()

    @property
    def acknowledges(self) -> bool:
        """Whether the answer says that what was not refused is taken."""
        return self.status == 200 and not self.hang_up


def react(mood: Mood | None, keys: Sequence[str | None], random: Random) -> Reaction:
    """Decide about a request that brings messages of these keys."""
    if mood is None or random.random() >= mood.share:
        return Reaction()

    takes = random.random() < TAKEN_ALL_THE_SAME
    match mood.kind:
        case Kind.ERROR:
            return Reaction(500, takes)
        case Kind.RETRY_AFTER:
            return Reaction(503, takes, retry_after_s=random.choice(RETRY_AFTER_S))
        case Kind.HANG_UP:
            return Reaction(takes=takes, hang_up=True)
        case Kind.TIME_OUT:
            return Reaction(takes=takes, delay_s=TIMEOUT_S + 0.5, hang_up=True)
        case Kind.LAG:
            return Reaction(delay_s=random.uniform(*LATENESS_S))
        case Kind.REFUSE_SOME:
            return _refuse_some(keys, random)
    raise ValueError(mood.kind)


def _refuse_some(keys: Sequence[str | None], random: Random) -> Reaction:
    """Hand back one position, and all that come after it of its key."""
    first = random.randrange(len(keys))
    later = range(first + 1, len(keys))
    refused = [first, *(at for at in later if keys[at] is not None and keys[at] == keys[first])]
    if len(refused) == len(keys):
        return Reaction(500, takes=False)
    return Reaction(refused=refused)


class MoodFile:
    """Tells the receiver, which is another process, the present moods by subscription."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, moods: Mapping[str, Mood]) -> None:
        """Replace them, all at once."""
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps({name: [m.kind, m.share] for name, m in moods.items()}))
        os.replace(draft, self._path)

    def read(self, name: str) -> Mood | None:
        """Give a subscription's mood, None if it is well."""
        found = json.loads(self._path.read_text()).get(name)
        return None if found is None else Mood(Kind(found[0]), float(found[1]))
