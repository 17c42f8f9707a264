"""What a broker and its publishers say to one another, where that is not HTTP."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What has come: messages confirmed and refused, whether to begin, what must be answered."""

    confirmed: int = 0
    refused: int = 0
    begin: bool = False
    reply: bytes = b""


class Dialect(Protocol):
    """One connection of a publisher."""

    def hello(self) -> bytes:
        """Begin."""

    def publish(self, body: bytes) -> bytes:
        """Put one message into bytes, which may be sent again and again."""

    def answered(self, buffer: bytearray) -> Answer:
        """Take all that is complete off the buffer."""
