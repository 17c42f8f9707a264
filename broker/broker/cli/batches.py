"""Files with an event in each line, cut into batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from broker.cli.failure import Refused

MAX_EVENTS = 1000
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Events as JSON, each with the number of its line."""

    lines: tuple[int, ...]
    events: tuple[bytes, ...]

    def body(self) -> bytes:
        """Render a request."""
        return b"[" + b",".join(self.events) + b"]"


def batches_in(file: IO[bytes], defaults: Mapping[str, str]) -> Iterator[Batch]:
    """Yield the events of a file, at most 1,000 or about 4 MiB together; blank lines are skipped.

    What an event leaves out it has from the defaults; its `sequence` is left out, for the log gives
    it another. Raises Refused for a line that is no JSON object.
    """
    lines: list[int] = []
    events: list[bytes] = []
    size = 0
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        event = _event_in(line, number, defaults)
        if events and (len(events) == MAX_EVENTS or size + len(event) > MAX_BYTES):
            yield Batch(tuple(lines), tuple(events))
            lines, events, size = [], [], 0
        lines.append(number)
        events.append(event)
        size += len(event)
    if events:
        yield Batch(tuple(lines), tuple(events))


def _event_in(line: bytes, number: int, defaults: Mapping[str, str]) -> bytes:
    from msgspec import DecodeError, Raw
    from msgspec.json import decode, encode
    from uuid_utils import uuid7

    try:
        given = decode(line, type=dict[str, Raw])
    except (DecodeError, RecursionError) as error:
        raise Refused(f"Line {number} is not an event in JSON: {error}.") from None
    given.pop("sequence", None)
    event: dict[str, object] = {"specversion": "1.0", **defaults}
    if "id" not in given:
        event["id"] = str(uuid7())
    if "time" not in given:
        event["time"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return encode({**event, **given})
