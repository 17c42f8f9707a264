"""What an endpoint says of a request's deliveries beyond its status: positions, late verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from broker.dispatch.frames import Outcome


@dataclass(frozen=True, slots=True)
class Positions:
    """What an ack of several deliveries singles out, by position in the request."""

    retry: frozenset[int] = frozenset()
    dead_letter: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.retry or self.dead_letter)


@dataclass(frozen=True, slots=True)
class LateVerdict:
    """The verdict on a request that was answered `later`.

    `verdict` is ack, retry, dead-letter or extend; `retry_after_s` belongs to retry and
    `ack_deadline_s` to extend.
    """

    verdict: str
    receipt: bool = False
    positions: Positions = Positions()
    retry_after_s: float | None = None
    ack_deadline_s: float | None = None

    def of_positions(self, kept: Sequence[int]) -> "LateVerdict":
        """Return the verdict on some of the request's positions, numbered anew in this order."""
        positions = Positions(
            frozenset(n for n, each in enumerate(kept) if each in self.positions.retry),
            frozenset(n for n, each in enumerate(kept) if each in self.positions.dead_letter),
        )
        return replace(self, positions=positions)


class _Answer(msgspec.Struct):
    retry: list[int] = []
    dead_letter: list[int] = []


_decode = msgspec.json.Decoder(_Answer).decode


def positions_of(outcome: Outcome, size: int) -> Positions:
    """Read what the answer to a batch singles out.

    An answer that is no such JSON singles out nothing; positions outside the batch are ignored, and
    one that is in both lists is retried.
    """
    if not outcome.body:
        return Positions()
    try:
        answer = _decode(outcome.body)
    except (msgspec.DecodeError, RecursionError):
        return Positions()
    retry = frozenset(each for each in answer.retry if 0 <= each < size)
    dead = frozenset(each for each in answer.dead_letter if 0 <= each < size)
    return Positions(retry, dead - retry)
