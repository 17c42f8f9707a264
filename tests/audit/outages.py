"""How long there was no service: the longest wait for a sign of it after a fault. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True, slots=True)
class Struck:
    """How long one strike left a topic without an acknowledged publish, and without a webhook."""

    name: str
    topic: str
    publish_s: float
    webhook_s: float

    def __str__(self) -> str:
        return (
            f"{self.name}, {self.topic}: {self.publish_s:.1f} s without an acknowledged publish,"
            f" {self.webhook_s:.1f} s without a webhook"
        )


@dataclass(frozen=True, slots=True)
class Outage:
    """How long a kind of strike kept topics from their work, over all times that one saw it."""

    name: str
    times: int
    publish_median_s: float
    publish_max_s: float
    webhook_median_s: float
    webhook_max_s: float


def longest_gap(signs: Sequence[float], began: float, ended: float) -> float:
    """Return the longest time without a sign from `began` to `ended`."""
    within = sorted(sign for sign in signs if began < sign < ended)
    return max(later - earlier for earlier, later in pairwise((began, *within, ended)))


def outages(strikes: Sequence[Struck]) -> list[Outage]:
    """Sum strikes up by their names."""
    of: defaultdict[str, list[Struck]] = defaultdict(list)
    for strike in strikes:
        of[strike.name].append(strike)
    return [_outage(name, of[name]) for name in sorted(of)]


def _outage(name: str, strikes: Sequence[Struck]) -> Outage:
    publish = [strike.publish_s for strike in strikes]
    webhook = [strike.webhook_s for strike in strikes]
    return Outage(name, len(strikes), median(publish), max(publish), median(webhook), max(webhook))
