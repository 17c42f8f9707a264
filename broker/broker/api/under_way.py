"""How much of requests' bodies is in memory, and who is refused when that is enough."""

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from broker.errors import Overloaded

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]

LEAST_BYTES = 128 * 1024 * 1024
LARGEST_BODIES = 8
SMALL_BYTES = 64 * 1024
_KEPT_FOR_SMALL = 4  # a quarter: who sends little gets through beside those who send much


def most_bytes(max_batch_bytes: int) -> int:
    """Return how many bytes may be under way: some of the largest bodies at once."""
    return max(LEAST_BYTES, LARGEST_BODIES * max_batch_bytes)


class UnderWay:
    """Counts what has come of all requests that are not answered yet.

    Bytes count when they are there and not when they are announced, so that announcing much keeps
    nobody out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_with_large = most - most // _KEPT_FOR_SMALL
        self.bytes = 0

    def take(self, size: int, more: int) -> None:
        """Let `more` bytes in for a request that has `size` so far. Raises Overloaded."""
        most = self._most if size + more <= SMALL_BYTES else self._most_with_large
        if self.bytes + more > most:
            raise Overloaded
        self.bytes += more

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count a request that is there in one piece for as long as it is held."""
        self.take(0, size)
        try:
            yield
        finally:
            self.bytes -= size


class Share:
    """The part of one request, given back once it is answered."""

    __slots__ = ("_receive", "_size", "_under_way")

    def __init__(self, under_way: UnderWay, receive: Receive) -> None:
        self._under_way = under_way
        self._receive = receive
        self._size = 0

    async def receive(self) -> MutableMapping[str, Any]:
        """Receive what comes next, and count it. Raises Overloaded."""
        event = await self._receive()
        if body := event.get("body"):
            self._under_way.take(self._size, len(body))
            self._size += len(body)
        return event

    def give_back(self) -> None:
        """Count no more of it."""
        self._under_way.bytes -= self._size
        self._size = 0
