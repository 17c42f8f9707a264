"""The patterns of LIKE: `%` for any characters, `_` for one, `\\` before either for itself."""

import re
from collections.abc import Callable
from typing import TypeAlias

from broker.filters.evaluation import Evaluation

Matches: TypeAlias = Callable[[str, Evaluation], bool]
Piece: TypeAlias = list[str | None]


def pattern(text: str) -> Matches:
    """Compile a pattern; what it returns takes steps in proportion to the text times the pattern.

    What stands between two `%` is found at its first place: if anything after it matches further
    on, it matches from there too, so that no place is ever tried twice.
    """
    first, *rest = _pieces(text)
    if not rest:
        return _whole(first)
    *between, last = rest
    between = [piece for piece in between if piece]
    if any(None in piece for piece in (first, *between, last)):
        return _with_wildcards(first, between, last)
    return _literal(_text(first), [_text(piece) for piece in between], _text(last))


def _pieces(text: str) -> list[Piece]:
    """Split a pattern at each `%` into characters, None for any one."""
    pieces: list[Piece] = [[]]
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] in {"%", "_"}:
            position += 1
            pieces[-1].append(text[position])
        elif character == "%":
            pieces.append([])
        else:
            pieces[-1].append(None if character == "_" else character)
        position += 1
    return pieces


def _text(piece: Piece) -> str:
    return "".join(character for character in piece if character is not None)


def _expression(piece: Piece) -> str:
    return "".join("." if character is None else re.escape(character) for character in piece)


def _whole(piece: Piece) -> Matches:
    """Match a pattern without `%`."""
    if None in piece:
        length, compiled = len(piece), re.compile(_expression(piece), re.DOTALL)
        return lambda text, _: len(text) == length and compiled.fullmatch(text) is not None
    wanted = _text(piece)
    return lambda text, _: text == wanted


def _literal(first: str, between: list[str], last: str) -> Matches:
    """Match a pattern without `_`."""
    if not between:
        if not last:
            return lambda text, _: text.startswith(first)
        if not first:
            return lambda text, _: text.endswith(last)
    least = len(first) + len(last)
    weight = sum(map(len, between))

    def matches(text: str, evaluation: Evaluation) -> bool:
        end = len(text) - len(last)
        if len(text) < least or not (text.startswith(first) and text.endswith(last)):
            return False
        if weight:
            evaluation.spend(len(text) * weight)
        position = len(first)
        for piece in between:
            found = text.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return matches


def _with_wildcards(first: Piece, between: list[Piece], last: Piece) -> Matches:
    """Match a pattern with `_`."""
    start, end = (re.compile(_expression(piece), re.DOTALL) for piece in (first, last))
    # (?>…): once found, a piece is not looked for further on.
    middle = re.compile(
        "".join(f"(?>.*?{_expression(piece)})" for piece in between),
        re.DOTALL,
    )
    before, after = len(first), len(last)
    weight = sum(map(len, between))

    def matches(text: str, evaluation: Evaluation) -> bool:
        length = len(text)
        if length < before + after:
            return False
        evaluation.spend(length * weight)
        return (
            start.match(text) is not None
            and end.match(text, length - after) is not None
            and middle.match(text, before, length - after) is not None
        )

    return matches
