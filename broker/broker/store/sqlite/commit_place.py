"""Where a COMMIT runs: on the event loop, or in a thread."""

import time
from collections.abc import Callable
from pathlib import Path

QUICK_COMMIT_S = 0.003
STALL_S = 10 * QUICK_COMMIT_S
TRIAL = 8  # commits on the loop, after which the place is chosen anew
AWAY = 64  # commits in the thread, before the next trial
FEW = 1.25  # waiters a commit, up to which hardly any gathers
MANY = 4  # waiters that count as much as a commit towards the next trial
RESTING = 0.2  # of the time


def claimed_s() -> float:
    """Return for how many seconds the calling thread has run, or been ready to.

    On other systems than Linux, for how many it has run.
    """
    try:
        _, waited_ns, _ = Path("/proc/thread-self/schedstat").read_bytes().split()
    except (OSError, ValueError):
        return time.thread_time()
    return time.thread_time() + int(waited_ns) / 1e9


class CommitPlace:
    """Decides from what commits on the loop took, and from how many waited for each.

    On the loop, a COMMIT costs no change of threads, and what arrives meanwhile waits in its
    sockets, to be read at once and written by one commit. That is best where the disk is quick. But
    some doors take in one request after the other, however many there are (gRPC's does): there each
    gets a commit of its own, unless the loop goes on while one runs. So commits are tried on the
    loop, and run in the thread for a while where the disk is slow, or where the loop is busy and
    hardly any commit had two waiters. A time taken in the thread tells nothing of the disk: it
    includes how late a busy loop hears that the commit is over.

    `claimed` is called on the loop's thread.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        claimed: Callable[[], float] = claimed_s,
    ) -> None:
        self._monotonic = monotonic
        self._claimed = claimed
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
                if self._slow > 1 or took_s > STALL_S:  # one may have met a checkpoint
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
        """Return for which part of the trial the loop had nothing to do, or somewhat less.

        What a commit takes of the processor counts twice.
        """
        passed_s = self._monotonic() - self._began_at
        busy_s = self._claimed() - self._claimed_before_s + self._took_s
        return 1 - busy_s / passed_s if passed_s > 0 else 0.0

    def _go(self, *, trial: bool) -> None:
        self._trial = trial
        self._left = TRIAL if trial else AWAY
        self._waiters = self._slow = 0
        self._took_s = 0.0
        self._began_at = self._monotonic()
        self._claimed_before_s = self._claimed() if trial else 0.0
