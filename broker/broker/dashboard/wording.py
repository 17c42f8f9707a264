"""How pages write numbers, times and data."""

import json
from collections.abc import Callable, Mapping
from typing import Any

SHOWN_DATA = 16 * 1024
_LAID_OUT = 256 * 1024  # JSON of more bytes is shown as it came: to lay it out would take long
_NONE = "\N{EN DASH}"
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def whole(number: int) -> str:
    """Write a number by its thousands."""
    return f"{number:,}"


def rate(a_second: float) -> str:
    """Write how much there is a second."""
    return f"{a_second:,.0f}" if a_second >= 10 or a_second == 0 else f"{a_second:.1f}"


def span(seconds: float | None) -> str:
    """Write a duration in its largest unit."""
    if seconds is None:
        return _NONE
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} s" if seconds else "0 s"


def duration(seconds: float) -> str:
    """Write a duration that somebody chose, as they might have."""
    for length, unit in _SPANS:
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:,g} {unit}"
    return f"{seconds:,g} s"


def size(bytes_: int) -> str:
    """Write how many bytes there are."""
    amount = float(bytes_)
    for unit in _SIZES[:-1]:
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {_SIZES[-1]}"


def moment(time: str | None) -> str:
    """Write an RFC 3339 time for people, to the second."""
    return _NONE if time is None else f"{time[:10]} {time[11:19]}"


def sentence(words: str) -> str:
    """Write words as a sentence."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def pretty(value: object) -> str:
    """Write what is JSON over lines."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def data_as_text(data: bytes | None) -> str | None:
    """Write a message's data, as JSON, as text or in hexadecimal; None where there is none."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data[:SHOWN_DATA].hex(" ", 4)
    if len(data) > _LAID_OUT:
        return text[:SHOWN_DATA]
    try:
        return pretty(json.loads(text))[:SHOWN_DATA]
    except (ValueError, RecursionError):
        return text[:SHOWN_DATA]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "whole": whole,
    "rate": rate,
    "span": span,
    "duration": duration,
    "size": size,
    "moment": moment,
    "sentence": sentence,
    "pretty": pretty,
}
