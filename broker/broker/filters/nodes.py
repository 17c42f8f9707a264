"""The parts of an expression of CESQL 1.0, each compiled to a function of an evaluation.

Source: CloudEvents SQL Expression Language 1.0.0, sections 3.2, 3.4 and 3.6. The first error ends
an evaluation, which is what its section 4.1 calls the fail fast mode.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from broker.filters.evaluation import (
    CASTS,
    HIGHEST,
    LOWEST,
    Error,
    Evaluation,
    Failed,
    Run,
    Type,
    Value,
    to_boolean,
    to_integer,
    to_string,
    type_of,
)
from broker.filters.functions import Function
from broker.filters.like import Matches

Arithmetic: TypeAlias = Callable[[int, int], int]
Comparison: TypeAlias = Callable[[int, int], bool]

ALWAYS_THERE = frozenset({"specversion", "id", "source", "type"})


@dataclass(frozen=True, slots=True)
class Node:
    """A part. `type` is None where only the event tells; `depth` counts what nests in it.

    `literal` is its value where that is written out; `joined` are the operands of an AND or an OR.
    """

    run: Run
    type: Type | None
    depth: int = 1
    literal: Value | None = None
    joined: tuple[str, Sequence["Node"]] | None = None


def literal(value: Value) -> Node:
    """Make a value that is written out."""
    return Node(lambda _: value, type_of(value), literal=value)


def attribute(name: str) -> Node:
    """Read an attribute."""

    def run(evaluation: Evaluation) -> Value:
        value = evaluation.attributes.get(name)
        if value is None:
            raise Failed(Error.MISSING_ATTRIBUTE)
        return value

    return Node(run, None)


def exists(name: str) -> Node:
    """Say whether there is an attribute."""
    if name in ALWAYS_THERE:
        return Node(lambda _: True, Type.BOOLEAN)
    return Node(lambda evaluation: name in evaluation.attributes, Type.BOOLEAN)


def invert(operand: Node) -> Node:
    """NOT.

    An Integer is a CastError here, as the specification's own conformance tests have it, although
    its text casts every Integer to Boolean.
    """
    inner = operand.run

    def run(evaluation: Evaluation) -> Value:
        value = inner(evaluation)
        if type(value) is int:
            failed = Failed(Error.CAST, True)
            failed.by = run
            raise failed
        return not to_boolean(value, evaluation)

    return _over(run, Type.BOOLEAN, operand)


def negate(operand: Node) -> Node:
    """The minus of one operand."""
    inner = operand.run
    return _over(
        lambda evaluation: _in_range(-to_integer(inner(evaluation), evaluation)),
        Type.INTEGER,
        operand,
    )


def arithmetic(symbol: str, left: Node, right: Node) -> Node:
    """An operator of two Integers that gives a third."""
    first, second, calculate = left.run, right.run, ARITHMETIC[symbol]

    def run(evaluation: Evaluation) -> Value:
        x, y = first(evaluation), second(evaluation)
        return _in_range(calculate(to_integer(x, evaluation), to_integer(y, evaluation)))

    return _over(run, Type.INTEGER, left, right)


def compare(symbol: str, left: Node, right: Node) -> Node:
    """An operator of two operands that gives a Boolean."""
    if symbol == "=":
        return _equal(left, right)
    if symbol in {"!=", "<>"}:
        return _equal(left, right, is_equal=False)
    first, second, decide = left.run, right.run, COMPARISONS[symbol]

    def run(evaluation: Evaluation) -> Value:
        x, y = first(evaluation), second(evaluation)
        return decide(to_integer(x, evaluation), to_integer(y, evaluation))

    return _over(run, Type.BOOLEAN, left, right)


def _equal(left: Node, right: Node, *, is_equal: bool = True) -> Node:
    """Compare, the left operand cast to the type of the right one."""
    first, second = left.run, right.run

    def run(evaluation: Evaluation) -> Value:
        x, y = first(evaluation), second(evaluation)
        if type(x) is not type(y):
            x = CASTS[type_of(y)](x, evaluation)
        return (x == y) is is_equal

    return _over(run, Type.BOOLEAN, left, right)


def join(word: str, left: Node, right: Node) -> Node:
    """AND and OR, which look at what follows only where that can matter; XOR, which looks at both.

    A row of one of the first two is one node, so that it may be long.
    """
    if word == "XOR":
        return _exclusive(left, right)
    begun = left.joined[1] if left.joined is not None and left.joined[0] == word else (left,)
    operands = (*begun, right)
    runs, decisive = [operand.run for operand in operands], word == "OR"

    def run(evaluation: Evaluation) -> Value:
        for each in runs:
            value = each(evaluation)
            if type(value) is not bool:
                value = to_boolean(value, evaluation)
            if value is decisive:
                return decisive
        return not decisive

    depth = 1 + max(operand.depth for operand in operands)
    return Node(run, Type.BOOLEAN, depth, joined=(word, operands))


def _exclusive(left: Node, right: Node) -> Node:
    first, second = left.run, right.run

    def run(evaluation: Evaluation) -> Value:
        x, y = first(evaluation), second(evaluation)
        return to_boolean(x, evaluation) is not to_boolean(y, evaluation)

    return _over(run, Type.BOOLEAN, left, right)


def like(operand: Node, matches: Matches, *, negated: bool) -> Node:
    """LIKE and NOT LIKE."""
    inner = operand.run

    def run(evaluation: Evaluation) -> Value:
        value = inner(evaluation)
        return matches(to_string(value, evaluation), evaluation) is not negated

    return _over(run, Type.BOOLEAN, operand)


def contained(operand: Node, elements: Sequence[Node], *, negated: bool) -> Node:
    """IN and NOT IN: look at one element after the other, each cast to the type of the operand."""
    values = [element.literal for element in elements]
    written_out = [value for value in values if value is not None]
    if len(written_out) == len(elements):
        return _contained_in_literals(operand, written_out, negated=negated)
    inner, runs = operand.run, [element.run for element in elements]

    def run(evaluation: Evaluation) -> Value:
        wanted = inner(evaluation)
        cast = CASTS[type_of(wanted)]
        for each in runs:
            if cast(each(evaluation), evaluation) == wanted:
                return not negated
        return negated

    return _over(run, Type.BOOLEAN, operand, *elements)


def _contained_in_literals(operand: Node, values: Sequence[Value], *, negated: bool) -> Node:
    """Look an operand up, however many elements there are."""
    inner = operand.run
    tables = {type_: _table(type_, values) for type_ in Type}

    def run(evaluation: Evaluation) -> Value:
        wanted = inner(evaluation)
        found, failure = tables[type_of(wanted)]
        if wanted in found:
            return not negated
        if failure is not None:
            raise Failed(failure)
        return negated

    return _over(run, Type.BOOLEAN, operand)


def _table(type_: Type, values: Sequence[Value]) -> tuple[set[Value], Error | None]:
    """Cast elements up to the first that cannot be cast."""
    found: set[Value] = set()
    for value in values:
        try:
            found.add(CASTS[type_](value, Evaluation({})))
        except Failed as failed:
            return found, failed.error
    return found, None


def call(function: Function, arguments: Sequence[Node]) -> Node:
    """Call a function, its arguments cast to what it takes."""
    function_call = function.call
    types = [function.type_at(position) for position in range(len(arguments))]
    parts = [
        (argument.run, None if type_ is None else CASTS[type_])
        for argument, type_ in zip(arguments, types, strict=True)
    ]

    def run(evaluation: Evaluation) -> Value:
        values: list[Value] = []
        for each, cast in parts:
            value = each(evaluation)
            values.append(value if cast is None else cast(value, evaluation))
        try:
            return function_call(evaluation, *values)
        except Failed as failed:
            failed.by = run
            raise

    return _over(run, function.returns, *arguments)


def _over(run: Run, type_: Type, *operands: Node) -> Node:
    return Node(run, type_, 1 + max((operand.depth for operand in operands), default=0))


def _in_range(number: int) -> int:
    if LOWEST <= number <= HIGHEST:
        return number
    raise Failed(Error.MATH)


def _divide(x: int, y: int) -> int:
    """Divide, rounding towards 0."""
    if y == 0:
        raise Failed(Error.MATH)
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) is (y < 0) else -quotient


def _remainder(x: int, y: int) -> int:
    """Return what a division leaves, with the sign of `x`."""
    if y == 0:
        raise Failed(Error.MATH)
    remainder = abs(x) % abs(y)
    return -remainder if x < 0 else remainder


ARITHMETIC: Mapping[str, Arithmetic] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _remainder,
}
COMPARISONS: Mapping[str, Comparison] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
