"""How much a run of the bench does."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Durations are in seconds of load, sizes in messages where nothing else is said.

    `minutes` bounds the whole run: no further round begins that would not end within it.
    """

    rounds: int
    minutes: float
    case_s: int
    step_s: int
    steps: int
    """How often a study repeats a measurement to take the median."""
    turns: int
    """The same where two are measured in turn, to be compared."""
    backlog: int
    pause_s: int
    orders_s: int
    orders_rate: int
    """Orders a second."""
    subscriptions: int
    waiting: int
    """Deliveries that wait for endpoints which fail."""
    growth: int
    """By how much the sizes at which growth is looked for are divided."""


QUICK = Scale(
    rounds=1,
    minutes=5,
    case_s=2,
    step_s=1,
    steps=1,
    turns=1,
    backlog=50_000,
    pause_s=5,
    orders_s=5,
    orders_rate=20,
    subscriptions=1_000,
    waiting=20_000,
    growth=20,
)
USUAL = Scale(
    rounds=3,
    minutes=25,
    case_s=8,
    step_s=2,
    steps=3,
    turns=8,
    backlog=2_000_000,
    pause_s=60,
    orders_s=20,
    orders_rate=20,
    subscriptions=10_000,
    waiting=1_000_000,
    growth=1,
)
FULL = replace(USUAL, minutes=90, case_s=10, step_s=4, backlog=10_000_000, pause_s=600, orders_s=60)
