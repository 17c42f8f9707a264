"""Whether a broker keeps the cells that it is given."""

from collections.abc import Callable, Sequence

KEEPS_S = 15.0
FIRST_S = 5.0
LONGEST_S = 300.0


class Trust:
    """Gives nothing, for a while, to a broker that did not keep the last cell that it was given.

    One that ends whenever it is to own a cell, for want of a key or of memory, and is started
    again, would else be given the same cell again and again. One that was only cut off or stopped
    just then is tried again soon: the while is longer each time, until it keeps a cell.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._given: dict[int, tuple[str, float]] = {}
        self._until: dict[str, float] = {}
        self._pauses: dict[str, float] = {}  # until it is tried again, the next time

    def gave(self, cell: int, follower: str) -> None:
        """Hear that a cell has been handed over."""
        self._given[cell] = (follower, self._monotonic())

    def look(self, owners: Sequence[str | None]) -> None:
        """See who owns the cells by now."""
        now = self._monotonic()
        for cell, (follower, at) in list(self._given.items()):
            if now - at > KEEPS_S:
                del self._given[cell]
                if owners[cell] is not None:
                    self._pauses.pop(follower, None)
            elif owners[cell] not in (None, follower):
                del self._given[cell]
                self._distrust(follower, now)

    def _distrust(self, broker: str, now: float) -> None:
        if now < self._until.get(broker, 0.0):
            return  # it lost several cells at once
        pause_s = self._pauses.get(broker, FIRST_S)
        self._until[broker] = now + pause_s
        self._pauses[broker] = min(2 * pause_s, LONGEST_S)

    def trusts(self, broker: str) -> bool:
        """Say whether a broker may be given a cell."""
        return self._monotonic() >= self._until.get(broker, 0.0)
