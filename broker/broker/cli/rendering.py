"""Values as people read them, and as a terminal can be trusted with them."""

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from broker.cli.listing import Cell

NOTHING = "-"
SHORT = 200

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_SIZES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def printable(text: str, keep: str = "") -> str:
    """Escape what would move a terminal's cursor, or worse; line ends too unless they are kept."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def said(value: Any) -> str:
    """Render one value of a document."""
    if value is None or value in ("", [], {}):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,g}"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return printable(", ".join(value))
    return printable(json.dumps(value, ensure_ascii=False))


def flattened(document: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a document, those of objects in it by `outer.inner`."""
    for name, value in document.items():
        if isinstance(value, dict) and value and name != "schema":
            yield from flattened(value, f"{within}{name}.")
        else:
            yield within + name, value


def duration(seconds: float | None) -> str:
    """Render seconds by their largest unit."""
    if seconds is None:
        return NOTHING
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def counted(count: int, what: str) -> str:
    """Render a number of things: `1 message`, `2 messages`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def size(count: int) -> str:
    """Render a number of bytes by its largest unit."""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} B"


def moment(text: str | None) -> str:
    """Render a time of the broker's to the millisecond."""
    if text is None:
        return NOTHING
    whole, dot, rest = text.partition(".")
    if dot and rest.endswith("Z") and rest[:-1].isdigit():
        return f"{whole}.{rest[:-1][:3]:0<3}Z"
    return printable(text)


def data_of(event: Mapping[str, Any]) -> str:
    """Render an event's data in one line."""
    if "data_base64" in event:
        count = len(b64decode(event["data_base64"]))
        return f"({size(count)} of {printable(str(event.get('datacontenttype', 'bytes')))})"
    if "data" not in event:
        return NOTHING
    data = event["data"]
    return printable(data if _is_text(event) else json.dumps(data, ensure_ascii=False))


def shortened(text: str, limit: int = SHORT) -> str:
    """Cut a text short."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def whole_data_of(event: Mapping[str, Any]) -> str:
    """Render an event's data as it is best read."""
    if "data_base64" in event:
        return str(event["data_base64"])
    if "data" not in event:
        return NOTHING
    if _is_text(event):
        return printable(event["data"], keep="\n\t")
    return printable(json.dumps(event["data"], ensure_ascii=False, indent=2), keep="\n")


def state(text: str) -> Cell:
    """Colour a state."""
    return text, {"active": "green", "paused": "yellow", "circuit-open": "bold red"}.get(text, "")


def trouble(count: int) -> Cell:
    """Colour a number that should be nought."""
    return (f"{count:,}", "red" if count else "")


def _is_text(event: Mapping[str, Any]) -> bool:
    type_ = str(event.get("datacontenttype", "application/json")).partition(";")[0].strip().lower()
    return isinstance(event["data"], str) and not type_.endswith(("/json", "+json"))
