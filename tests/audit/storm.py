"""The storm: everybody suffers what is planned for them, at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event, Lock, Thread

from audit.fault_log import FaultLog
from audit.faults import Fault
from audit.moods import Mood, MoodFile
from audit.victim import Sufferer


class Storm:
    """Carries out a plan, a thread for each target; leaving the `with` ends and heals it all.

    A target is one of the `victims`, or a subscription whose endpoint answers as `moods` say.
    """

    def __init__(
        self,
        plan: Mapping[str, Sequence[Fault]],
        victims: Mapping[str, Sufferer],
        moods: MoodFile,
        log: FaultLog,
    ) -> None:
        self._victims = victims
        self._mood_file = moods
        self._moods: dict[str, Mood] = {}
        self._lock = Lock()
        self._log = log
        self._over = Event()
        self._threads = [
            Thread(target=self._hit, args=(faults,), name=f"storm over {target}")
            for target, faults in plan.items()
        ]

    def __enter__(self) -> Storm:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _hit(self, faults: Sequence[Fault]) -> None:
        """Make one target suffer. What takes longer than planned delays what follows."""
        began_s = self._log.elapsed_s()
        for fault in faults:
            if self._over.wait(max(0.0, began_s + fault.at_s - self._log.elapsed_s())):
                return
            self._log.write(str(fault), counted=f"{fault.kind}")
            try:
                self._carry_out(fault)
            except (OSError, AssertionError) as error:
                self._log.surprise(f"{fault}: {error!r}")
            self._log.write(f"{fault.target}: over")

    def _carry_out(self, fault: Fault) -> None:
        victim = self._victims.get(fault.target)
        if victim is not None:
            victim.suffer(fault, self._over)
            return
        self._set_mood(fault.target, Mood(fault.kind, fault.share))
        self._over.wait(fault.for_s)
        self._set_mood(fault.target, None)

    def _set_mood(self, name: str, mood: Mood | None) -> None:
        with self._lock:
            self._moods.pop(name, None)
            if mood is not None:
                self._moods[name] = mood
            self._mood_file.write(self._moods)
