"""What goes wrong in a cluster: one thing after the other, sometimes two, decided by the seed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from audit.faults import Fault, Kind

# Who suffers is found out at the time: the roles change hands.
OWNER, STANDBY = "the owner", "a standby"
LEADER, FOLLOWER = "the leader", "a follower"
BROKERS, SERVERS = (OWNER, STANDBY), (LEADER, FOLLOWER)
ROLES: Mapping[str, int] = {OWNER: 4, STANDBY: 2, LEADER: 3, FOLLOWER: 2}
# Three replicas survive the loss of one: two servers never suffer at once.
PAIRS: Sequence[tuple[str, str]] = (
    (OWNER, LEADER),
    (OWNER, FOLLOWER),
    (STANDBY, LEADER),
    (OWNER, STANDBY),
)
PAIRED = 0.25
APART_S = (0.0, 3.0)
REST_S = 1.0

BROKER_KINDS: Mapping[Kind, int] = {
    Kind.KILL: 3,
    Kind.PAUSE: 3,
    Kind.RESTART: 2,
    Kind.CUT_OFF: 2,
    Kind.STALL: 2,
    Kind.DEAFEN: 1,
    Kind.SLOW_DISK: 2,
}
KINDS: Mapping[str, Mapping[Kind, int]] = {
    OWNER: {**BROKER_KINDS, Kind.KILL_WORKER: 1, Kind.KILL_COURIER: 1},
    STANDBY: BROKER_KINDS,
    LEADER: {Kind.KILL: 3, Kind.PAUSE: 2, Kind.SLOW_DISK: 2},
    FOLLOWER: {Kind.KILL: 3, Kind.PAUSE: 2, Kind.SLOW_DISK: 1},
}
# Where a broker that stops or comes has cells handed over.
RESTARTS = 6
# A lease lasts 5 s; the owner gives NATS up after 12 s.
LASTS_S: Mapping[Kind, tuple[float, float]] = {
    Kind.KILL: (0.0, 9.0),
    Kind.PAUSE: (4.0, 9.0),
    Kind.RESTART: (0.0, 6.0),
    Kind.CUT_OFF: (1.0, 14.0),
    Kind.STALL: (1.0, 14.0),
    Kind.DEAFEN: (1.0, 14.0),
    Kind.SLOW_DISK: (2.0, 14.0),
}
# From slow to stuck for longer than a lease, as often below half a second as above it.
LATE_S = (0.05, 6.0)
TWO = "two at once"


@dataclass(frozen=True, slots=True)
class Strike:
    """Faults that come together, `rest_s` after all was well. Their `at_s` count from the first."""

    rest_s: float
    faults: Sequence[Fault]

    @property
    def name(self) -> str:
        """What it is counted as."""
        return TWO if len(self.faults) > 1 else name_of(self.faults[0])


def name_of(fault: Fault) -> str:
    """Return what a fault is counted as."""
    return f"{fault.target}: {fault.kind}"


def strikes(seed: int, without: Collection[Kind] = (), *, shared: bool = False) -> Iterator[Strike]:
    """Give one strike after the other, without an end, and without what is not possible here.

    Where the store is `shared`, brokers are stopped and started again more often.
    """
    kinds = {
        role: {
            kind: RESTARTS if shared and kind is Kind.RESTART else weight
            for kind, weight in of_role.items()
            if kind not in without
        }
        for role, of_role in KINDS.items()
    }
    random = Random(f"{seed}/cluster")
    while True:
        rest_s = random.expovariate(1 / REST_S)
        if random.random() < PAIRED:
            yield Strike(rest_s, _pair(random, kinds))
        else:
            (role,) = random.choices(list(ROLES), list(ROLES.values()))
            yield Strike(rest_s, (_fault(random, role, kinds[role]),))


def _pair(random: Random, kinds: Mapping[str, Mapping[Kind, int]]) -> Sequence[Fault]:
    first_role, second_role = random.sample(random.choice(PAIRS), 2)
    first = _fault(random, first_role, kinds[first_role])
    others = {kind: each for kind, each in kinds[second_role].items() if kind is not first.kind}
    return first, _fault(random, second_role, others, random.uniform(*APART_S))


def _fault(random: Random, role: str, kinds: Mapping[Kind, int], at_s: float = 0.0) -> Fault:
    (kind,) = random.choices(list(kinds), list(kinds.values()))
    for_s = random.uniform(*LASTS_S.get(kind, (0.0, 0.0)))
    late_s = math.exp(random.uniform(*map(math.log, LATE_S))) if kind is Kind.SLOW_DISK else 0.0
    return Fault(at_s, role, kind, for_s, late_s=late_s)
