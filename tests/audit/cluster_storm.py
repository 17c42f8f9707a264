"""The storm over a cluster: one strike after the other, each once the last is got over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event, Thread

from audit.cluster_faults import Strike, name_of
from audit.fault_log import FaultLog
from audit.faults import Fault
from audit.outages import Struck, longest_gap
from audit.pulse import Pulse
from audit.victim import Sufferer

RECOVERY_S = 90.0
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Part:
    """Whoever has a role, and which role the same one has for each topic's cell."""

    victim: Sufferer
    roles: Mapping[str, str]


# Who has these roles at the moment, each somebody else.
Cast = Callable[[Sequence[str]], Mapping[str, Part]]


class ClusterStorm:
    """Carries out strikes in a thread; leaving the `with` ends and heals what is going on.

    Between two strikes it waits until `is_well`, and notes how long there was no service.
    """

    def __init__(
        self,
        strikes: Iterator[Strike],
        cast: Cast,
        is_well: Callable[[], bool],
        pulse: Pulse,
        log: FaultLog,
    ) -> None:
        self._strikes = strikes
        self._cast = cast
        self._is_well = is_well
        self._pulse = pulse
        self._log = log
        self._over = Event()
        self._thread = Thread(target=self._run, name="storm over the cluster")

    def __enter__(self) -> ClusterStorm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        for strike in self._strikes:
            if self._over.wait(strike.rest_s):
                return
            try:
                self._hit(strike)
            except Exception as error:  # the thread's end would pass for a calm
                self._log.surprise(f"{strike.name}: {error!r}")

    def _hit(self, strike: Strike) -> None:
        parts = self._cast([fault.target for fault in strike.faults])
        began = time.time()
        with ThreadPoolExecutor(len(strike.faults)) as pool:
            hits = [
                pool.submit(self._carry_out, fault, parts[fault.target].victim)
                for fault in strike.faults
            ]
        for hit in hits:
            hit.result()
        self._await_recovery(strike)
        ended = time.time()
        for topic in self._pulse.topics:
            struck = Struck(
                seen_by(topic, strike, parts),
                topic,
                longest_gap(self._pulse.acknowledged(topic, began), began, ended),
                longest_gap(self._pulse.arrived(topic, began), began, ended),
            )
            self._log.note(struck)

    def _carry_out(self, fault: Fault, victim: Sufferer) -> None:
        if self._over.wait(fault.at_s):
            return
        self._log.write(f"{fault}: {victim}", counted=name_of(fault))
        try:
            victim.suffer(fault, self._over)
        except (OSError, AssertionError) as error:
            self._log.surprise(f"{fault}: {error!r}")
        self._log.write(f"{fault.target}: over")

    def _await_recovery(self, strike: Strike) -> None:
        healed = time.time()
        while not (self._is_well() and self._pulse.beats(healed)):
            if time.time() > healed + RECOVERY_S:
                self._log.surprise(f"{RECOVERY_S:g} s after {strike.name}, not all is well")
                return
            time.sleep(LOOK_S)


def seen_by(topic: str, strike: Strike, parts: Mapping[str, Part]) -> str:
    """Return what a strike is for a topic: one cell's owner is a standby of another."""
    if len(strike.faults) > 1:
        return strike.name
    (fault,) = strike.faults
    return name_of(replace(fault, target=parts[fault.target].roles[topic]))
