"""Where a COMMIT runs: on the event loop, or in a thread."""

import time
from collections.abc import Callable

QUICK_COMMIT_S = 0.003
TRIAL = 8
AWAY = 64
FEW = 1.25
MANY = 4
RESTING = 0.2


class CommitPlace:
    """Decides from what commits on the loop took, and from how many waited for each.

    On the loop, a COMMIT costs no change of threads, and what arrives meanwhile waits in its
    sockets, to be read at once and written by one commit. That is best where the disk is quick. But
    some doors take in one request after the other, however many there are (gRPC's does): there each
    gets a commit of its own, unless the loop goes on while one runs. So commits are tried on the
    loop, and run in the thread for a while where the disk is slow, or where hardly any was waited
    for by two although the loop had no rest. What one takes in the thread tells nothing: it is over
    when the loop has time to hear of it.

    `cpu` is the time that the loop's thread has worked, in seconds.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._monotonic = monotonic
        self._cpu = cpu
        self._go(trial=True)

    def on_loop(self) -> bool:
        """Say where the next one runs."""
        return self._trial

    def observe(self, took_s: float, waiters: int) -> None:
        """Hear what one took, and how many waited for it."""
        if self._trial:
            self._took_s += took_s
            if took_s > QUICK_COMMIT_S:
                self._slow += 1
                if self._slow > 1:  # one may have met a checkpoint
                    self._go(trial=False)
                    return
        if not waiters:
            return
        self._waiters += waiters
        # Where many come together in the thread, they may well do so on the loop: tried sooner.
        self._left -= 1 if self._trial else max(waiters // MANY, 1)
        if self._left <= 0:
            gathers = self._waiters > FEW * TRIAL
            self._go(trial=not self._trial or gathers or self._rested() > RESTING)

    def _rested(self) -> float:
        """Return for which part of the trial the loop neither worked nor waited for the disk."""
        passed_s = self._monotonic() - self._began_at
        busy_s = self._cpu() - self._cpu_before_s + self._took_s
        return 1 - busy_s / passed_s if passed_s > 0 else 0.0

    def _go(self, *, trial: bool) -> None:
        self._trial = trial
        self._left = TRIAL if trial else AWAY
        self._waiters = self._slow = 0
        self._took_s = 0.0
        self._began_at = self._monotonic()
        self._cpu_before_s = self._cpu()
