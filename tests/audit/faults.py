"""What goes wrong, when, for how long: decided in advance, by the seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from audit.subscriptions import AUDITED
from e2e.stack import Service

RECEIVER, OPERATOR = "receiver", "operator"
# A target's mean rest between two faults, in seconds.
REST_S: Mapping[str, float] = {
    Service.BROKER: 5.0,
    Service.ORDERS: 9.0,
    Service.SHIPPING: 8.0,
    Service.NOTIFICATIONS: 8.0,
    RECEIVER: 5.0,
}
ANSWERS_REST_S = OPERATOR_REST_S = 3.0


class Kind(StrEnum):
    """What happens to a process, or what an endpoint answers."""

    KILL = "kill -9"
    KILL_WORKER = "kill -9 its worker"
    KILL_COURIER = "kill -9 its courier"
    PAUSE = "pause"
    PAUSE_COURIER = "pause its courier"
    SLOW_DOWN = "slow down"
    RESTART = "restart"
    ERROR = "answer 500"
    RETRY_AFTER = "answer 503 with Retry-After"
    HANG_UP = "hang up"
    TIME_OUT = "give no answer in time"
    LAG = "answer late"
    REFUSE_SOME = "refuse some of a batch"
    PAUSE_SUBSCRIPTION = "pause a subscription"
    SEEK_BACK = "seek back"
    ROTATE_SECRET = "rotate a secret"
    CUT_OFF = "cut off"
    STALL = "hold what it sends and hears"
    DEAFEN = "hold what it hears"
    SLOW_DISK = "slow disk"


PROCESS_FAULTS: Mapping[Kind, int] = {
    Kind.KILL: 3,
    Kind.PAUSE: 2,
    Kind.SLOW_DOWN: 1,
    Kind.RESTART: 1,
}
BROKER_FAULTS: Mapping[Kind, int] = {
    **PROCESS_FAULTS,
    Kind.RESTART: 2,
    Kind.KILL_WORKER: 2,
    Kind.KILL_COURIER: 2,
    Kind.PAUSE_COURIER: 1,
}
ANSWER_FAULTS: Sequence[Kind] = (
    Kind.ERROR,
    Kind.RETRY_AFTER,
    Kind.HANG_UP,
    Kind.TIME_OUT,
    Kind.LAG,
)
# To seek back is to ask for messages again, and what was asked for twice comes twice.
OPERATIONS_ONCE = (Kind.PAUSE_SUBSCRIPTION, Kind.ROTATE_SECRET)
OPERATIONS = (*OPERATIONS_ONCE, Kind.SEEK_BACK)
SUDDEN = frozenset({Kind.KILL, Kind.KILL_WORKER, Kind.KILL_COURIER, Kind.RESTART})
# What happens to those of a cluster only, whose plan is another.
CLUSTER_ONLY = frozenset({Kind.CUT_OFF, Kind.STALL, Kind.DEAFEN, Kind.SLOW_DISK})
PAUSE_S = (0.2, 4.0)
ANSWERS_S = (0.5, 4.0)
SHARES = (0.1, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong `at_s` seconds into the storm, and is over `for_s` later.

    `target` is a service, the receiver, a subscription whose endpoint answers badly, `share` of its
    answers at least, or an operator who does something to a `subscription`. A slow disk answers
    `late_s` later than it would.
    """

    at_s: float
    target: str
    kind: Kind
    for_s: float = 0.0
    share: float = 1.0
    subscription: str = ""
    late_s: float = 0.0

    def __str__(self) -> str:
        lasting = f" for {self.for_s:.1f} s" if self.for_s else ""
        share = f" to {self.share:.0%} of its requests" if self.share < 1 else ""
        of = f", {self.subscription}" if self.subscription else ""
        late = f", {self.late_s:.2f} s late" if self.late_s else ""
        return f"{self.target}: {self.kind}{of}{share}{late}{lasting}"


def plan(seed: int, duration_s: float) -> Mapping[str, Sequence[Fault]]:
    """Give each target's faults, in order; those of one target never overlap."""
    faults = {
        target: list(_process_faults(Random(f"{seed}/{target}"), target, rest_s, duration_s))
        for target, rest_s in REST_S.items()
    }
    for name in AUDITED:
        faults[name] = list(_answer_faults(Random(f"{seed}/{name}"), name, duration_s))
    faults[OPERATOR] = list(_operations(Random(f"{seed}/{OPERATOR}"), duration_s))
    return faults


def _process_faults(
    random: Random, target: str, rest_s: float, duration_s: float
) -> Iterator[Fault]:
    kinds = BROKER_FAULTS if target == Service.BROKER else PROCESS_FAULTS
    at_s = random.expovariate(1 / rest_s)
    while at_s < duration_s:
        (kind,) = random.choices(list(kinds), list(kinds.values()))
        for_s = 0.0 if kind in SUDDEN else random.uniform(*PAUSE_S)
        yield Fault(at_s, target, kind, for_s)
        at_s += for_s + random.expovariate(1 / rest_s)


def _answer_faults(random: Random, name: str, duration_s: float) -> Iterator[Fault]:
    kinds = ANSWER_FAULTS
    if AUDITED[name].format == "batch":
        kinds = (*kinds, Kind.REFUSE_SOME)
    at_s = random.expovariate(1 / ANSWERS_REST_S)
    while at_s < duration_s:
        for_s = random.uniform(*ANSWERS_S)
        yield Fault(at_s, name, random.choice(kinds), for_s, random.choice(SHARES))
        at_s += for_s + random.expovariate(1 / ANSWERS_REST_S)


def _operations(random: Random, duration_s: float) -> Iterator[Fault]:
    """What is no fault at all, at a bad time."""
    at_s = random.expovariate(1 / OPERATOR_REST_S)
    while at_s < duration_s:
        audited = random.choice(list(AUDITED.values()))
        kinds = OPERATIONS if audited.retried else OPERATIONS_ONCE
        kind = random.choice(kinds)
        for_s = random.uniform(*PAUSE_S) if kind is Kind.PAUSE_SUBSCRIPTION else 0.0
        yield Fault(at_s, OPERATOR, kind, for_s, subscription=audited.name)
        at_s += for_s + random.expovariate(1 / OPERATOR_REST_S)
