"""What an expression of CESQL 1.0 is evaluated with: values, their types and casts, errors, cost.

Source: CloudEvents SQL Expression Language 1.0.0, sections 3.1, 3.3 and 3.7.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

Value: TypeAlias = str | int | bool

MOST_STEPS = 1_000_000
LOWEST, HIGHEST = -(2**31), 2**31 - 1
_INTEGER = re.compile(r"[+-]?0*[0-9]{1,10}")


class Error(StrEnum):
    """The kinds of errors that the specification names."""

    PARSE = "parse"
    MATH = "math"
    CAST = "cast"
    MISSING_ATTRIBUTE = "missingAttribute"
    MISSING_FUNCTION = "missingFunction"
    FUNCTION_EVALUATION = "functionEvaluation"
    GENERIC = "generic"


class Type(StrEnum):
    """The types of values."""

    BOOLEAN = "Boolean"
    INTEGER = "Integer"
    STRING = "String"


ZEROS: Mapping[Type, Value] = {Type.BOOLEAN: False, Type.INTEGER: 0, Type.STRING: ""}


class Failed(Exception):
    """An evaluation met an error, which ends it.

    `by` is the part that met it where that part gives a value even so, which then is `value`.
    """

    def __init__(self, error: Error, value: Value | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.value = value
        self.by: Run | None = None


class Evaluation:
    """One event that is looked at.

    `steps` are left; one is about a character that a function or a pattern looks at. All that is
    asked of one event draws on the same steps.
    """

    __slots__ = ("attributes", "steps")

    def __init__(self, attributes: Mapping[str, Value]) -> None:
        self.attributes = attributes
        self.steps = MOST_STEPS

    def spend(self, steps: int) -> None:
        """Count steps that are about to be taken; it fails if there are too many."""
        self.steps -= steps
        if self.steps < 0:
            raise Failed(Error.GENERIC)


Run: TypeAlias = Callable[[Evaluation], Value]


def type_of(value: Value) -> Type:
    """Return the type of a value."""
    if isinstance(value, str):
        return Type.STRING
    return Type.BOOLEAN if isinstance(value, bool) else Type.INTEGER


def to_boolean(value: Value, evaluation: Evaluation) -> bool:
    """Cast to Boolean."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value != 0
    lowered = value.lower() if len(value) <= len("false") else ""
    if lowered not in {"true", "false"}:
        raise Failed(Error.CAST)
    return lowered == "true"


def to_integer(value: Value, evaluation: Evaluation) -> int:
    """Cast to Integer."""
    if not isinstance(value, str):
        return int(value)
    evaluation.spend(len(value))
    if _INTEGER.fullmatch(value):
        # Without the zeros, because Python counts them towards the digits that it reads.
        number = int(value[:1].strip("0123456789") + (value.lstrip("+-0") or "0"))
        if LOWEST <= number <= HIGHEST:
            return number
    raise Failed(Error.CAST)


def to_string(value: Value, evaluation: Evaluation) -> str:
    """Cast to String."""
    return value if isinstance(value, str) else text_of(value)


def text_of(value: Value) -> str:
    """Return a value as CloudEvents write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


CASTS: Mapping[Type, Callable[[Value, Evaluation], Value]] = {
    Type.BOOLEAN: to_boolean,
    Type.INTEGER: to_integer,
    Type.STRING: to_string,
}
