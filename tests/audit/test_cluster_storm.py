"""A storm over a cluster goes on only when all is well again, and says what was not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from audit import cluster_storm
from audit.cluster_faults import LEADER, OWNER, STANDBY, TWO, Strike
from audit.cluster_storm import ClusterStorm, Part
from audit.fault_log import FaultLog
from audit.faults import Fault, Kind
from audit.pulse import Pulse
from support.eventually import eventually

KILL, PAUSE = Fault(0.0, OWNER, Kind.KILL), Fault(0.0, LEADER, Kind.PAUSE, 60.0)


class Steady(Pulse):
    """Signs of life, all the time or never."""

    def __init__(self, *, alive: bool = True) -> None:  # needs no publishers, no ledger
        self.topics = ["own", "other"]
        self.alive = alive

    def acknowledged(self, topic: str, since: float) -> list[float]:
        """Return one a while later."""
        return [since + 0.001] if self.alive else []

    def arrived(self, topic: str, since: float) -> list[float]:
        """Return one a while later."""
        return self.acknowledged(topic, since)

    def beats(self, since: float) -> bool:
        """Say whether it does."""
        return self.alive


class Witness:
    """Suffers, and remembers it."""

    def __init__(self) -> None:
        self.suffered: list[Fault] = []
        self.hurried = False

    def suffer(self, fault: Fault, hurry: Event) -> None:
        """Remember it."""
        self.suffered.append(fault)
        self.hurried = hurry.wait(fault.for_s)


def storm(
    strikes: Iterator[Strike], witness: Witness, log: FaultLog, *, alive: bool = True
) -> ClusterStorm:
    """Make one that hits one and the same."""

    def cast(roles: Sequence[str]) -> dict[str, Part]:
        return {role: Part(witness, {"own": role, "other": STANDBY}) for role in roles}

    return ClusterStorm(strikes, cast, lambda: alive, Steady(alive=alive), log)


@pytest.fixture
def log(tmp_path: Path) -> FaultLog:
    """A new one."""
    return FaultLog(tmp_path / "faults.log")


def test_every_strike_is_carried_out_counted_and_noted(log: FaultLog) -> None:
    witness = Witness()
    strikes = [Strike(0.0, (KILL,)), Strike(0.0, (KILL,))]
    with storm(iter(strikes), witness, log):
        eventually(lambda: len(log.strikes) == 2 * len(strikes))

    assert witness.suffered == [KILL, KILL]
    assert log.counts == {"the owner: kill -9": 2}
    assert log.surprises == []


def test_strike_is_noted_for_each_topic_as_its_cell_saw_it(log: FaultLog) -> None:
    both = Strike(0.0, (KILL, Fault(0.0, STANDBY, Kind.KILL)))
    with storm(iter([Strike(0.0, (KILL,)), both]), Witness(), log):
        eventually(lambda: len(log.strikes) == 4)

    assert [(struck.topic, struck.name) for struck in log.strikes] == [
        ("own", "the owner: kill -9"),
        ("other", "a standby: kill -9"),
        ("own", TWO),
        ("other", TWO),
    ]


def test_end_of_the_storm_cuts_short_what_lasts(log: FaultLog) -> None:
    witness = Witness()
    with storm(iter([Strike(0.0, (PAUSE,)), Strike(0.0, (KILL,))]), witness, log):
        eventually(lambda: witness.suffered)

    assert (witness.suffered, witness.hurried) == ([PAUSE], True)
    assert len(log.strikes) == 2


def test_strike_that_fails_is_a_surprise_and_the_next_one_follows(log: FaultLog) -> None:
    def cast(roles: Sequence[str]) -> dict[str, Part]:
        raise AssertionError("nobody owns the store")

    strikes = [Strike(0.0, (KILL,)), Strike(0.0, (PAUSE,))]
    with ClusterStorm(iter(strikes), cast, lambda: True, Steady(), log):
        eventually(lambda: len(log.surprises) == len(strikes))

    assert "nobody owns the store" in log.surprises[0]


def test_broker_that_does_not_come_back_is_a_surprise(
    log: FaultLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_storm, "RECOVERY_S", 0.1)
    with storm(iter([Strike(0.0, (KILL,))]), Witness(), log, alive=False):
        eventually(lambda: log.surprises)

    assert "not all is well" in log.surprises[0]
