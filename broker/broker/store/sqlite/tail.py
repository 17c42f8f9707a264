"""The newest part of a topic's log, in memory."""

from collections.abc import Sequence
from typing import NamedTuple

from broker.model import Message

# What has been forgotten is kept until it is one in so many: to remove it takes the list as long as
# there is of it.
_GONE_SHARE = 32


class Page(NamedTuple):
    """Messages of the log, in order, and the size of each in bytes."""

    messages: Sequence[Message]
    sizes: Sequence[int]

    def beginning(self, room: int) -> "Page":
        """Cut off what comes behind the message that fills the room, in bytes."""
        if sum(self.sizes) <= room:
            return self
        count = 0
        while room > 0:
            room -= self.sizes[count]
            count += 1
        return Page(self.messages[:count], self.sizes[:count])


class Tail:
    """Messages that follow one another in the log, and their sizes."""

    __slots__ = ("_gone", "_messages", "_sizes")

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._sizes: list[int] = []
        self._gone = 0  # of the first of these

    def __len__(self) -> int:
        return len(self._messages) - self._gone

    def add(self, messages: Sequence[Message], sizes: Sequence[int]) -> None:
        """Add what follows the last."""
        self._messages += messages
        self._sizes += sizes

    def forget(self, count: int) -> None:
        """Forget the first messages."""
        self._gone += count
        if self._gone * _GONE_SHARE >= len(self._messages):
            del self._messages[: self._gone]
            del self._sizes[: self._gone]
            self._gone = 0

    def clear(self) -> None:
        """Forget all of them."""
        self.forget(len(self))

    def page(self, after: int, limit: int) -> Page | None:
        """Return up to `limit` messages after a seq, None where the first of those is not here."""
        if not self:
            return None
        start = self._gone + after + 1 - self._messages[self._gone].seq
        if not self._gone <= start < len(self._messages):
            return None
        end = start + limit
        return Page(self._messages[start:end], self._sizes[start:end])
