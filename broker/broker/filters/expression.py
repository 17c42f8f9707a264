"""Expressions of CESQL 1.0: read once, then evaluated for many events."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken
from lark.visitors import v_args

from broker.filters import nodes
from broker.filters.evaluation import (
    HIGHEST,
    LOWEST,
    ZEROS,
    Error,
    Evaluation,
    Failed,
    Type,
    Value,
)
from broker.filters.functions import FUNCTIONS, find
from broker.filters.like import pattern
from broker.filters.nodes import Node

MOST_CHARACTERS = 4096
MOST_DEPTH = 64
_SHOWN = 40


class WrongExpression(Exception):
    """An expression that cannot be evaluated: of which kind the fault is, and where, from 1."""

    def __init__(self, error: Error, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.error = error
        self.line = line
        self.column = column


class Expression:
    """An expression that can be evaluated. `type` is None where only the event tells."""

    __slots__ = ("_run", "type")

    def __init__(self, text: str) -> None:
        """Read an expression; raise WrongExpression that says what is wrong, and where."""
        node = _read(text)
        self._run = node.run
        self.type = node.type

    def evaluate(self, attributes: Mapping[str, Value]) -> tuple[Value, Error | None]:
        """Return the value for an event, and the error that ended the evaluation, if one did.

        With an error the value is the zero of the type, or what the specification says.
        """
        try:
            return self._run(Evaluation(attributes)), None
        except Failed as failed:
            if failed.by is self._run and failed.value is not None:
                return failed.value, failed.error
            return ZEROS[self.type or Type.BOOLEAN], failed.error

    def matches(self, evaluation: Evaluation) -> bool:
        """Say whether an event passes: whether the value is true, and nothing went wrong."""
        try:
            return self._run(evaluation) is True
        except Failed:
            return False


def _read(text: str) -> Node:
    if len(text) > MOST_CHARACTERS:
        raise WrongExpression(Error.PARSE, f"it has more than {MOST_CHARACTERS} characters")
    try:
        return cast(Node, _parser().parse(text))  # a tree, but for the transformer
    except UnexpectedCharacters as unexpected:
        raise _unreadable(text, unexpected) from None
    except UnexpectedToken as unexpected:
        raise _misplaced(text, unexpected) from None


@cache
def _parser() -> Lark:
    grammar = files("broker.filters").joinpath("cesql.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", transformer=_Compiler(), maybe_placeholders=True)


def _unreadable(text: str, unexpected: UnexpectedCharacters) -> WrongExpression:
    """Say what is wrong with characters that begin nothing."""
    found = text[unexpected.pos_in_stream or 0]
    unended = "a string begins here that does not end"
    what = unended if found in "'\"" else f"{found!r} has no meaning here"
    return WrongExpression(Error.PARSE, what, unexpected.line, unexpected.column)


def _misplaced(text: str, unexpected: UnexpectedToken) -> WrongExpression:
    """Say what is wrong with a word, a value or a sign that stands where it cannot."""
    token, wanted = unexpected.token, _wanted(unexpected.accepts or unexpected.expected)
    if token.type == "$END":
        line, column = _place(text, len(text.rstrip()))
        return WrongExpression(Error.PARSE, f"it ends where {wanted} is missing", line, column)
    shown = str(token) if len(token) <= _SHOWN else f"{token[:_SHOWN]}…"
    return WrongExpression(
        Error.PARSE, f"{shown} stands where {wanted} belongs", token.line or 1, token.column or 1
    )


def _wanted(expected: set[str]) -> str:
    if "TRUE" in expected:
        return "a value"
    if expected == {"STRING"}:
        return "a string in quotes"
    if expected == {"NAME"}:
        return "the name of an attribute"
    if expected == {"LPAR"}:
        return "a list in parentheses"
    return "an operator or a closing parenthesis" if "RPAR" in expected else "an operator"


def _place(text: str, position: int) -> tuple[int, int]:
    """Return the line and the column of a position, both from 1."""
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


@v_args(inline=True)
class _Compiler(Transformer[Token, Node]):
    """Makes a node of each rule, from the innermost outwards."""

    def join(self, left: Node, word: Token, right: Node) -> Node:
        return _checked(nodes.join(word.upper(), left, right), word)

    def compare(self, left: Node, symbol: Token, right: Node) -> Node:
        return _checked(nodes.compare(str(symbol), left, right), symbol)

    def arithmetic(self, left: Node, symbol: Token, right: Node) -> Node:
        return _checked(nodes.arithmetic(str(symbol), left, right), symbol)

    def like(self, operand: Node, word: Token, text: Token) -> Node:
        return _checked(nodes.like(operand, pattern(_unquoted(text)), negated=False), word)

    def not_like(self, operand: Node, word: Token, _: Token, text: Token) -> Node:
        return _checked(nodes.like(operand, pattern(_unquoted(text)), negated=True), word)

    def contained(self, operand: Node, word: Token, elements: list[Node]) -> Node:
        return _checked(nodes.contained(operand, elements, negated=False), word)

    def not_contained(self, operand: Node, word: Token, _: Token, elements: list[Node]) -> Node:
        return _checked(nodes.contained(operand, elements, negated=True), word)

    def elements(self, *elements: Node) -> list[Node]:
        return list(elements)

    def invert(self, word: Token, operand: Node) -> Node:
        return _checked(nodes.invert(operand), word)

    def negate(self, sign: Token, operand: Node) -> Node:
        return _checked(nodes.negate(operand), sign)

    def exists(self, _: Token, name: Token) -> Node:
        return nodes.exists(name.lower())

    def call(self, name: Token, arguments: list[Node] | None) -> Node:
        arguments = arguments or []
        function = find(name, len(arguments))
        if function is None:
            raise _no_function(name, len(arguments))
        return _checked(nodes.call(function, arguments), name)

    def attribute(self, name: Token) -> Node:
        return nodes.attribute(name.lower())

    def integer(self, digits: Token) -> Node:
        # The number of digits first: Python refuses to read very many.
        if len(digits.lstrip("+-0")) > len(str(HIGHEST)) or not LOWEST <= int(digits) <= HIGHEST:
            raise _wrong(digits, f"an integer is from {LOWEST} to {HIGHEST}")
        return nodes.literal(int(digits))

    def string(self, text: Token) -> Node:
        return nodes.literal(_unquoted(text))

    def true(self, _: Token) -> Node:
        return nodes.literal(True)

    def false(self, _: Token) -> Node:
        return nodes.literal(False)


def _unquoted(text: Token) -> str:
    """Return what a string stands for: only its own quote is escaped."""
    quote = text[0]
    return text[1:-1].replace(f"\\{quote}", quote)


def _checked(node: Node, token: Token) -> Node:
    if node.depth > MOST_DEPTH:
        raise _wrong(token, f"more than {MOST_DEPTH} operators and functions nest here")
    return node


def _wrong(token: Token, message: str, error: Error = Error.PARSE) -> WrongExpression:
    return WrongExpression(error, message, token.line or 1, token.column or 1)


def _no_function(name: Token, count: int) -> WrongExpression:
    known = name.upper() in FUNCTIONS
    what = (
        f"{name.upper()} does not take {count} arguments"
        if known
        else f"there is no function {name[:_SHOWN]}; there are {', '.join(FUNCTIONS)}"
    )
    return _wrong(name, what, Error.MISSING_FUNCTION)
