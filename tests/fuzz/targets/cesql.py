"""An expression of CloudEvents SQL."""

from __future__ import annotations

from collections.abc import Mapping

from broker.filters.evaluation import HIGHEST, LOWEST, Error, Type, Value, type_of
from broker.filters.expression import Expression, WrongExpression
from fuzz.inputs import text_of
from fuzz.samples import ATTRIBUTES


def check(data: bytes) -> None:
    """Read an expression; it has one value for an event, also in parentheses and negated."""
    text = text_of(data)
    try:
        expression = Expression(text)
    except WrongExpression as wrong:
        assert wrong.error in set(Error)
        assert 1 <= wrong.line <= text.count("\n") + 1
        assert 1 <= wrong.column <= len(text) + 1
        return
    for attributes in ATTRIBUTES:
        value, error = expression.evaluate(attributes)
        _check_value(expression, value)
        assert expression.evaluate(attributes) == (value, error)
        _check_rewritten(text, attributes, value, error)


def _check_value(expression: Expression, value: Value) -> None:
    assert expression.type is None or type_of(value) is expression.type
    assert type_of(value) is not Type.INTEGER or LOWEST <= int(value) <= HIGHEST


def _check_rewritten(
    text: str, attributes: Mapping[str, Value], value: Value, error: Error | None
) -> None:
    try:
        same, negated = Expression(f"({text})"), Expression(f"NOT ({text})")
    except WrongExpression:  # now it is too long, or too deep
        return
    assert same.evaluate(attributes) == (value, error)
    if error is None and isinstance(value, bool):
        assert negated.evaluate(attributes) == (not value, None)
