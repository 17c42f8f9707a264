"""Server-Sent Events, read.

Source: HTML Living Standard, section 9.2.6, Interpreting an event stream.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event; lines of `data` are joined by line feeds."""

    id: str
    data: bytes


def events_in(parts: Iterable[bytes]) -> Iterator[list[ServerSentEvent]]:
    """Yield the events that each part of a stream completes; one that breaks off is never one."""
    rest, id_, data = b"", "", []
    for part in parts:
        found = []
        text = rest + part
        held = b"\r" if text.endswith(b"\r") else b""  # a line feed may follow it
        *lines, rest = _LINE_END.split(text[: len(text) - len(held)])
        rest += held
        for line in lines:
            name, _, value = line.partition(b":")
            if line and name == b"data":
                data.append(value.removeprefix(b" "))
            elif line and name == b"id":
                id_ = value.removeprefix(b" ").decode()
            elif not line and data:
                found.append(ServerSentEvent(id_, b"\n".join(data)))
                data = []
        if found:
            yield found
