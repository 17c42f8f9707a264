"""Just enough HTTP/1.1 to send and receive at a rate that leaves the cores to the broker."""

import re
from dataclasses import dataclass

HEAD_END = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
BODILESS = (b"GET ", b"HTTP/1.1 204 ")


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response; the head is the first line and the headers, as sent."""

    head: bytes
    body: bytes


def take_message(buffer: bytearray) -> Message | None:
    """Take the first message off the buffer, once it is complete.

    Raises ValueError for a message that does not say how long its body is.
    """
    head_end = buffer.find(HEAD_END)
    if head_end < 0:
        return None
    head = bytes(buffer[:head_end])
    start = head_end + len(HEAD_END)
    end = start + body_length(head)
    if len(buffer) < end:
        return None
    body = bytes(buffer[start:end])
    del buffer[:end]
    return Message(head, body)


def body_length(head: bytes) -> int:
    """Say how many bytes of body follow a head."""
    found = CONTENT_LENGTH.search(head)
    if found is not None:
        return int(found[1])
    if head.startswith(BODILESS):
        return 0
    raise ValueError(f"no Content-Length in {head!r}")
