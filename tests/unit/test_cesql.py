"""Expressions of CESQL 1.0, where the conformance tests say nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.filters.evaluation import MOST_STEPS, Error, Evaluation, type_of
from broker.filters.expression import MOST_CHARACTERS, MOST_DEPTH, Expression, WrongExpression
from broker.filters.functions import FUNCTIONS
from broker.filters.nodes import ARITHMETIC, COMPARISONS

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "order.placed",
    "text": "Straße 5",
    "number": "42",
    "whole": -7,
    "flag": True,
}


def value_of(expression: str) -> Any:
    value, error = Expression(expression).evaluate(EVENT)
    assert error is None
    return value


def fault_of(expression: str) -> WrongExpression | None:
    try:
        Expression(expression)
    except WrongExpression as wrong:
        return wrong
    return None


def error_of(expression: str) -> tuple[Any, str]:
    value, error = Expression(expression).evaluate(EVENT)
    assert error is not None
    return value, str(error)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        # from left to right, AND, OR and XOR being of one rank
        ("TRUE OR TRUE AND FALSE", False),
        ("FALSE AND FALSE OR TRUE", True),
        ("TRUE XOR TRUE OR TRUE", True),
        ("TRUE OR FALSE XOR TRUE", False),
        ("FALSE AND TRUE AND TRUE OR TRUE", True),
        ("10 - 4 - 3", 3),
        ("2 * 7 / 4", 3),
        ("7 / 4 * 2", 2),
        ("3 > 2 = TRUE", True),
        ("2 + 3 * 4 = 14 AND NOT FALSE", True),
        # a unary operator binds more tightly than what follows
        ("NOT TRUE = FALSE", True),
        ("NOT FALSE LIKE 'true'", True),
        ("-2 + 3", 1),
        ("-(2 + 3)", -5),
        ("NOT (number = 42)", False),
        ("1 + 1 IN (1, 2) = 2", True),
        # a sign is one of a number where a value may stand, else an operator
        ("4-1", 3),
        ("4 -1", 3),
        ("4 - -1", 5),
        ("4 + +1", 5),
        ("- 4", -4),
        ("-2147483648", -(2**31)),
        ("007", 7),
        # rounded towards 0, what is left has the sign of what is divided
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 / -2", 3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-2147483648 % -1", 0),
        # the left side is cast to the type of the right one
        ("number = 42", True),
        ("42 = number", True),
        ("'042' = 42", True),
        ("42 = '042'", False),
        ("flag = 'true'", True),
        ("flag = 'TRUE'", False),
        ("'TRUE' = flag", True),
        ("5 = TRUE", True),
        ("TRUE = 5", False),
        ("number != 42", False),
        ("whole < 0", True),
        ("flag + 1", 2),
        ("'+5' + '-3'", 2),
        ("0 OR 'tRuE'", True),
        # in a set, what is looked for has the type
        ("number IN (41, 42)", True),
        ("number IN ('042', 42)", True),
        ("whole IN ('-7', 'x')", True),
        ("whole NOT IN (1, flag)", True),
        ("id IN (whole, id)", True),
        ("flag IN (0, 1)", True),
        # functions
        ("length(text)", 8),
        ("Upper(text)", "STRASSE 5"),
        ("TRIM('\u2003 a\u001f \n')", "a\u001f"),
        ("LEFT(text, 0)", ""),
        ("RIGHT(text, 0)", ""),
        ("RIGHT(text, 1) + 1", 6),
        ("SUBSTRING(text, -1, 9)", "5"),
        ("SUBSTRING(text, 8, 0)", ""),
        ("SUBSTRING('', 0)", ""),
        ("CONCAT(whole, flag, 'x')", "-7truex"),
        ("CONCAT_WS (whole, 1, 2)", "1-72"),
        ("INT('0000000000000000000007')", 7),
        ("INT('+2147483647')", 2**31 - 1),
        ("ABS('-3')", 3),
        ("STRING(-0)", "0"),
        # text
        (r"'it\'s'", "it's"),
        (r'"say \"no\""', 'say "no"'),
        (r"'a\"b'", r"a\"b"),
        (r"'back\\slash'", r"back\\slash"),
        ("'two\nlines'", "two\nlines"),
        ("EXISTS Flag AND EXISTS id AND NOT EXISTS nothing", True),
        ("TYPE", "order.placed"),
    ],
)
def test_value_of_an_expression(expression: str, value: Any) -> None:
    found = value_of(expression)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("expression", "value", "error"),
    [
        ("2147483647 + 1", 0, "math"),
        ("-2147483648 - 1", 0, "math"),
        ("65536 * 65536", 0, "math"),
        ("-2147483648 / -1", 0, "math"),
        ("--2147483648", 0, "math"),
        ("ABS(-2147483648) = 1", False, "math"),
        ("LEFT(text, -1) = text", False, "functionEvaluation"),
        ("SUBSTRING(text, 1, -1)", "", "functionEvaluation"),
        ("SUBSTRING(text, 9)", "", "functionEvaluation"),
        ("INT('2147483648')", 0, "cast"),
        ("INT('1.5')", 0, "cast"),
        ("INT('')", 0, "cast"),
        ("INT(' 1')", 0, "cast"),
        ("INT('\uff11')", 0, "cast"),
        ("'" + "9" * 4000 + "' < 1", False, "cast"),
        ("text > 1", False, "cast"),
        ("text = 1", False, "cast"),
        ("text AND TRUE", False, "cast"),
        ("1 IN ('x', 1)", False, "cast"),
        ("1 IN (text, 1)", False, "cast"),
        ("2 IN (1, 'x')", False, "cast"),
        ("source IN (nothing, source)", False, "missingAttribute"),
        ("nothing OR TRUE", False, "missingAttribute"),
        ("in1 = 1", False, "missingAttribute"),
        ("LENGTH(nothing)", 0, "missingAttribute"),
        ("STRING(nothing)", "", "missingAttribute"),
        ("nothing NOT LIKE 'x'", False, "missingAttribute"),
        ("nothing NOT IN ('x')", False, "missingAttribute"),
        ("NOT (nothing = 1)", False, "missingAttribute"),
        ("nothing / 0", 0, "missingAttribute"),
    ],
)
def test_error_of_an_expression(expression: str, value: Any, error: str) -> None:
    assert error_of(expression) == (value, error)


@pytest.mark.parametrize(
    "expression", ["FALSE AND nothing", "TRUE OR 1 / 0 = 1", "TRUE AND FALSE AND text > 1"]
)
def test_what_cannot_matter_is_not_looked_at(expression: str) -> None:
    assert isinstance(value_of(expression), bool)


@pytest.mark.parametrize(
    ("expression", "line", "column", "about"),
    [
        ("", 1, 1, "a value is missing"),
        ("type =", 1, 7, "a value is missing"),
        ("type =  \n ", 1, 7, "a value is missing"),
        ("type = \n  ]", 2, 3, "']' has no meaning"),
        ("type = 'order", 1, 8, "does not end"),
        ("type LIKE 5", 1, 11, "a string in quotes"),
        ("type LIKE source", 1, 11, "a string in quotes"),
        ("type IN 'x'", 1, 9, "a list in parentheses"),
        ("type IN ()", 1, 10, "a value"),
        ("EXISTS 'x'", 1, 8, "the name of an attribute"),
        ("a AND AND b", 1, 7, "AND stands where a value belongs"),
        ("in = 1", 1, 1, "in stands where a value belongs"),
        ("a b", 1, 3, "b stands where an operator belongs"),
        ("(a b", 1, 4, "b stands where an operator or a closing parenthesis belongs"),
        ("(a", 1, 3, "an operator or a closing parenthesis is missing"),
        ("a)", 1, 2, ") stands where an operator belongs"),
        ("'a''b'", 1, 4, "'b' stands where an operator belongs"),
        ("my_attribute = 1", 1, 1, "has no meaning"),
        ("a =\n2147483648", 2, 1, "from -2147483648 to 2147483647"),
        ("-2147483649", 1, 1, "from -2147483648 to 2147483647"),
        ("9" * 4096, 1, 1, "from -2147483648 to 2147483647"),
        ("a = 1 AND\nNOW() > 3", 2, 1, "no function NOW"),
        ("LEFT(a)", 1, 1, "LEFT does not take 1 argument"),
        ("CONCAT_WS()", 1, 1, "CONCAT_WS does not take 0 arguments"),
        ("x" * 4096 + " y", 1, 1, "more than 4096 characters"),
    ],
)
def test_fault_says_what_is_wrong_and_where(
    expression: str, line: int, column: int, about: str
) -> None:
    with pytest.raises(WrongExpression) as wrong:
        Expression(expression)
    assert about in str(wrong.value)
    assert (wrong.value.line, wrong.value.column) == (line, column)
    assert f"line {line}, column {column}" in str(wrong.value)


@pytest.mark.parametrize("opening", ["-", "NOT ", "ABS(", "1 + (", "1 IN (", "(1) = ("])
def test_nesting_is_limited(opening: str) -> None:
    def nested(times: int) -> str:
        return opening * times + "1" + ")" * (times * (opening.strip()[-1] == "("))

    Expression(nested(MOST_DEPTH - 2))
    with pytest.raises(WrongExpression, match="nest"):
        Expression(nested(MOST_DEPTH + 1))


def test_parentheses_alone_and_long_rows_do_not_nest() -> None:
    assert value_of("(" * 2000 + "1" + ")" * 2000) == 1
    assert value_of(" AND ".join(["TRUE"] * 450))
    assert not value_of(" OR ".join(["FALSE"] * 450))
    with pytest.raises(WrongExpression, match="nest"):
        Expression(" XOR ".join(["TRUE"] * 450))


# -- cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "big LIKE '%" + "a_" * 100 + "b%'",
        "big LIKE '%" + "a" * 100 + "b%'",
        " OR ".join(["big LIKE '%a%b%'"] * 200),
        "CONCAT(" * 20 + "big" + ", big)" * 20 + " = ''",
        " AND ".join(["UPPER(big) = UPPER(big)"] * 100),
        " AND ".join(["LEFT(big, 1) = 'a'"] * 100),
    ],
)
def test_what_costs_too_much_ends_with_an_error(expression: str) -> None:
    compiled = Expression(expression)
    assert compiled.evaluate({"big": "a" * 64_000}) == (False, Error.GENERIC)
    assert not compiled.matches(Evaluation({"big": "a" * 64_000}))
    assert compiled.evaluate({"big": "a" * 50})[1] is None


def test_all_that_is_asked_of_an_event_draws_on_the_same_steps() -> None:
    expression, evaluation = Expression("big LIKE '%aa%'"), Evaluation({"big": "a" * 100_000})
    taken = 0
    while expression.matches(evaluation):
        taken += 1
    assert taken == MOST_STEPS // 200_000


# -- anything ------------------------------------------------------------------------------------

names = st.sampled_from([*EVENT, "nothing"])
texts = st.text(alphabet="a%_\\ 1é", max_size=5).map(lambda text: f"'{text}'".replace("\\", "\\\\"))
leaves = st.one_of(
    names,
    texts,
    st.sampled_from(["TRUE", "false", "''", "'true'", "'-3'"]),
    st.integers(-(2**31), 2**31 - 1).map(str),
    names.map(lambda name: f"(EXISTS {name})"),
)


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Make what has parts out of parts."""
    calls = [
        st.tuples(*[inner] * count).map(lambda parts, name=name: f"{name}({', '.join(parts)})")  # type: ignore[misc]
        for name, functions in FUNCTIONS.items()
        for count in range(5)
        if any(function.accepts(count) for function in functions)
    ]
    operators = st.sampled_from(["AND", "OR", "XOR", *ARITHMETIC, "=", "!=", "<>", *COMPARISONS])
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"(NOT {part})"),
        inner.map(lambda part: f"(-{part})"),
        st.tuples(inner, st.sampled_from(["LIKE", "NOT LIKE"]), texts).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        st.tuples(inner, st.sampled_from(["IN", "NOT IN"]), st.lists(inner, min_size=1)).map(
            lambda parts: f"({parts[0]} {parts[1]} ({', '.join(parts[2])}))"
        ),
        *calls,
    )


expressions = st.recursive(leaves, combined, max_leaves=12)


@given(expressions)
@example("(NOT 3)")
def test_evaluation_never_raises_and_has_the_type_that_was_told(text: str) -> None:
    expression = Expression(text)

    value, error = expression.evaluate(EVENT)

    if expression.type is not None:
        assert type_of(value) is expression.type
    elif error is not None:
        assert value is False
    assert expression.matches(Evaluation(EVENT)) == (error is None and value is True)


@given(
    st.text(alphabet="aA1 '\"\\()=<>!+-*/%,_é\n", max_size=30) | expressions.map(lambda t: t[1:])
)
def test_any_text_is_an_expression_or_told_to_be_none(text: str) -> None:
    found = fault_of(text)
    if found is not None:
        lines = text.split("\n")
        assert 1 <= found.line <= len(lines)
        assert 1 <= found.column <= len(lines[found.line - 1]) + 1


def test_longest_expression_is_read() -> None:
    text = "'" + "x" * (MOST_CHARACTERS - 2) + "'"
    assert value_of(text) == text[1:-1]
