"""Refusing new messages before the disk is full."""

import time
from collections.abc import Callable

from broker.errors import StorageFull
from broker.retention import is_full
from broker.store.port import Store

CHECK_S = 0.5
CHECK_BYTES = 16 * 1024 * 1024
# Between two checks no more may be taken than a small part of what is to stay free, or one of them
# would find room and the next a disk that is full.
_CHECK_SHARE = 64


class Room:
    """How much the disk has left for messages, looked up now and then.

    Sizes are bytes of data. What was let in but is not written yet counts as written.
    """

    def __init__(
        self, store: Store, min_free_bytes: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._min_free_bytes = min_free_bytes
        self._check_bytes = min(CHECK_BYTES, min_free_bytes // _CHECK_SHARE or CHECK_BYTES)
        self._now = now
        self._checked_at = float("-inf")
        self._taken = 0  # since then
        self._writing = 0
        self._full = False

    def require(self, size: int = 0) -> None:
        """Raise StorageFull where there is no room."""
        now = self._now()
        self._taken += size
        if self._taken > self._check_bytes or now - self._checked_at > CHECK_S:
            self._checked_at = now
            self._taken = 0
            free = max(0, self._store.free_bytes() - self._writing - size)
            self._full = is_full(free, self._store.reusable_bytes(), self._min_free_bytes)
        if self._full:
            raise StorageFull(
                f"Less than {self._min_free_bytes} bytes are free where the broker keeps its "
                "data. What is stored is still delivered; publish again once there is room."
            )

    def take(self, size: int) -> None:
        """Let a message in, or raise StorageFull; `written` is to follow."""
        self.require(size)
        self._writing += size

    def written(self, size: int) -> None:
        """Hear that what was taken is on disk, or never will be."""
        self._writing -= size
