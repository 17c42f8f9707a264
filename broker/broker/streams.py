"""How many streams there may be at once, over every door together."""

from collections.abc import Iterator
from contextlib import contextmanager

from broker.errors import BrokerError

MOST_STREAMS = 2000


class TooManyStreams(BrokerError):
    """There are as many streams as there may be."""

    status = 503
    code = "too_many_streams"
    retry_after_s = 5

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} streams are open, and no more may be. Close one that is not needed, "
            "or come back later."
        )


class Streams:
    """The streams that are open."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self.most = most
        self.open = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for one stream. Raises TooManyStreams."""
        if self.open >= self.most:
            raise TooManyStreams(self.most)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
