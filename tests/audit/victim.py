"""A program of the stack, and all that can be done to it while others need it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Protocol

import psutil

from audit.faults import Fault, Kind
from e2e.supervised import Supervised

STOPPED_S, RUNNING_S = 0.06, 0.04
COURIER = "broker.dispatch.courier"


class Sufferer(Protocol):
    """Whoever something can be done to."""

    def suffer(self, fault: Fault, hurry: Event) -> None:
        """Do it, all of it; what lasts is cut short by `hurry`. Raises OSError, AssertionError."""


class Victim:
    """A supervised program. Whatever is done to it, it is running again or about to afterwards."""

    def __init__(self, supervised: Supervised, environment: Mapping[str, str]) -> None:
        self._supervised = supervised
        self._environment = environment

    def suffer(self, fault: Fault, hurry: Event) -> None:
        """Do it, all of it; what lasts is cut short by `hurry`.

        Raises TimeoutError for a program that does not stop in good order.
        """
        match fault.kind:
            case Kind.KILL if fault.for_s == 0:
                self._supervised.kill()
            case Kind.KILL:
                self._stay_away(self._supervised.close, fault.for_s, hurry)
            case Kind.RESTART:
                self._stay_away(self._supervised.stop, fault.for_s, hurry)
            case Kind.PAUSE:
                self._pause(fault.for_s, hurry)
            case Kind.SLOW_DOWN:
                self._slow_down(fault.for_s, hurry)
            case Kind.KILL_WORKER:
                self._send(signal.SIGKILL, self._above_couriers())
            case Kind.KILL_COURIER:
                self._send(signal.SIGKILL, self._couriers()[:1])
            case Kind.PAUSE_COURIER:
                self._pause_courier(fault.for_s, hurry)
            case _:
                raise ValueError(fault.kind)

    def _stay_away(self, end: Callable[[], None], for_s: float, hurry: Event) -> None:
        try:
            end()
            hurry.wait(for_s)
        finally:
            self._supervised.start(self._environment)

    def _pause(self, for_s: float, hurry: Event) -> None:
        self._supervised.send_signal(signal.SIGSTOP)
        try:
            hurry.wait(for_s)
        finally:
            self._supervised.send_signal(signal.SIGCONT)

    def _slow_down(self, for_s: float, hurry: Event) -> None:
        """Give it the processor for a part of the time only."""
        for _ in range(round(for_s / (STOPPED_S + RUNNING_S))):
            self._pause(STOPPED_S, hurry)
            hurry.wait(RUNNING_S)

    def _pause_courier(self, for_s: float, hurry: Event) -> None:
        paused = self._couriers()[:1]
        self._send(signal.SIGSTOP, paused)
        try:
            hurry.wait(for_s)
        finally:
            self._send(signal.SIGCONT, paused)

    def _couriers(self) -> list[psutil.Process]:
        """List the couriers, if any, the oldest first: what is killed comes last the next time."""
        return sorted(self._parts(couriers=True), key=psutil.Process.create_time)

    def _above_couriers(self) -> list[psutil.Process]:
        return self._parts(couriers=False)

    def _parts(self, *, couriers: bool) -> list[psutil.Process]:
        parts = []
        for process in self._supervised.members():
            with suppress(psutil.NoSuchProcess):
                if (COURIER in process.cmdline()) is couriers:
                    parts.append(process)
        return parts

    def _send(self, number: signal.Signals, to: Sequence[psutil.Process]) -> None:
        for process in to:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
