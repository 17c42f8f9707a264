"""Where a COMMIT runs: on the event loop, or in a thread."""

QUICK_COMMIT_S = 0.003
TRIAL = 8
AWAY = 64
FEW = 1.25
_WEIGHT = 0.1


class CommitPlace:
    """Decides from what commits took, and from how many waited for each.

    On the loop, a COMMIT costs no change of threads, and what arrives meanwhile waits in its
    sockets, to be read at once and written by one commit. That is best where the disk is quick. But
    some doors take in one request after the other, however many there are (gRPC's does): there each
    gets a commit of its own, unless the loop goes on while one runs. So commits are tried on the
    loop, and run in the thread for a while where hardly any was waited for by two.
    """

    def __init__(self) -> None:
        self._commit_s = 0.0
        self._trial = True
        self._left = TRIAL
        self._waiters = 0

    def on_loop(self) -> bool:
        """Say where the next one runs."""
        return self._trial and self._commit_s < QUICK_COMMIT_S

    def observe(self, took_s: float, waiters: int) -> None:
        """Hear what one took, and how many waited for it."""
        self._commit_s += _WEIGHT * (took_s - self._commit_s)
        if not waiters:
            return
        self._waiters += waiters
        self._left -= 1
        if self._left == 0:
            self._trial = not self._trial or self._waiters > FEW * TRIAL
            self._left = TRIAL if self._trial else AWAY
            self._waiters = 0
