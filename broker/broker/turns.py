"""Where a page of waiting messages ends, as text that clients hand back unread."""

import re

from broker.errors import Fault, InvalidRequest
from broker.model import Turn

START = "0"
TURN = r"([0-9]{1,15}(?:\.[0-9]{1,20})?)_([0-9]{1,18})"  # as a regular expression
_turn = re.compile(TURN)


def parse_turn(text: str) -> Turn:
    """Read a place. Raises InvalidRequest."""
    if text == START:
        return 0.0, 0
    found = _turn.fullmatch(text)
    if found is None:
        raise InvalidRequest([Fault("after", "must be 0, or what `next` of a page before says")])
    return float(found[1]), int(found[2])


def written_turn(turn: Turn) -> str:
    """Write a place."""
    return f"{turn[0]!r}_{turn[1]}"
