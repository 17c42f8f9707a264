"""The functions of CESQL 1.0. Source: its sections 3.5 and, for the casts, 3.7."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.filters.evaluation import (
    HIGHEST,
    LOWEST,
    Error,
    Evaluation,
    Failed,
    Type,
    Value,
    to_boolean,
    to_integer,
    to_string,
)

# Unicode's White_Space; Python's own notion has U+001C to U+001F as well.
_WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True, slots=True)
class Function:
    """A function: the types of its arguments, None for any, and of what it returns.

    With `variadic` the last argument may be there any number of times, or not at all.
    """

    returns: Type
    takes: tuple[Type | None, ...]
    call: Callable[..., Value]
    variadic: bool = False

    def accepts(self, count: int) -> bool:
        """Say whether it may be called with so many arguments."""
        return count >= len(self.takes) - 1 if self.variadic else count == len(self.takes)

    def type_at(self, position: int) -> Type | None:
        """Return the type of an argument."""
        return self.takes[min(position, len(self.takes) - 1)]


def find(name: str, count: int) -> Function | None:
    """Return the function of this name that takes so many arguments."""
    named = FUNCTIONS.get(name.upper(), ())
    return next((function for function in named if function.accepts(count)), None)


def _length(evaluation: Evaluation, text: str) -> int:
    return len(text)


def _concat(evaluation: Evaluation, *texts: str) -> str:
    return _concat_ws(evaluation, "", *texts)


def _concat_ws(evaluation: Evaluation, delimiter: str, *texts: str) -> str:
    evaluation.spend(sum(map(len, texts)) + len(delimiter) * len(texts))
    return delimiter.join(texts)


def _lower(evaluation: Evaluation, text: str) -> str:
    evaluation.spend(len(text))
    return text.lower()


def _upper(evaluation: Evaluation, text: str) -> str:
    evaluation.spend(len(text))
    return text.upper()


def _trim(evaluation: Evaluation, text: str) -> str:
    evaluation.spend(len(text))
    return text.strip(_WHITE_SPACE)


def _left(evaluation: Evaluation, text: str, count: int) -> str:
    evaluation.spend(len(text))
    if count < 0:
        raise Failed(Error.FUNCTION_EVALUATION, text)
    return text[:count]


def _right(evaluation: Evaluation, text: str, count: int) -> str:
    evaluation.spend(len(text))
    if count < 0:
        raise Failed(Error.FUNCTION_EVALUATION, text)
    return text[max(len(text) - count, 0) :]


def _substring(evaluation: Evaluation, text: str, first: int, count: int = HIGHEST) -> str:
    evaluation.spend(len(text))
    if not -len(text) <= first <= len(text) or count < 0:
        raise Failed(Error.FUNCTION_EVALUATION)
    if first == 0:
        return ""
    start = first - 1 if first > 0 else len(text) + first
    return text[start : start + count]


def _absolute(evaluation: Evaluation, number: int) -> int:
    if number == LOWEST:
        raise Failed(Error.MATH, HIGHEST)
    return abs(number)


def _cast(to: Callable[[Value, Evaluation], Any]) -> Callable[..., Value]:
    return lambda evaluation, value: to(value, evaluation)


_B, _I, _S = Type.BOOLEAN, Type.INTEGER, Type.STRING
FUNCTIONS: Mapping[str, tuple[Function, ...]] = {
    "ABS": (Function(_I, (_I,), _absolute),),
    "BOOL": (Function(_B, (None,), _cast(to_boolean)),),
    "CONCAT": (Function(_S, (_S,), _concat, variadic=True),),
    "CONCAT_WS": (Function(_S, (_S, _S), _concat_ws, variadic=True),),
    "INT": (Function(_I, (None,), _cast(to_integer)),),
    "LEFT": (Function(_S, (_S, _I), _left),),
    "LENGTH": (Function(_I, (_S,), _length),),
    "LOWER": (Function(_S, (_S,), _lower),),
    "RIGHT": (Function(_S, (_S, _I), _right),),
    "STRING": (Function(_S, (None,), _cast(to_string)),),
    "SUBSTRING": (Function(_S, (_S, _I), _substring), Function(_S, (_S, _I, _I), _substring)),
    "TRIM": (Function(_S, (_S,), _trim),),
    "UPPER": (Function(_S, (_S,), _upper),),
}
