"""Filters as a subscription has them: read from JSON, and compiled to say what matches.

Source: CloudEvents Subscriptions API, section "Filter Dialects".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from broker.cloudevents import attributes_of
from broker.errors import Fault
from broker.filters.evaluation import Evaluation, Type, text_of
from broker.filters.expression import Expression, WrongExpression

Filter: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Evaluation], bool]
Wants: TypeAlias = Callable[[bytes], bool]

MOST_FILTERS = 100
MOST_NESTING = 10
MOST_BYTES = 16 * 1024
_NAME = "[a-z0-9]{1,64}"
_ATTRIBUTE_NAME = re.compile(rf"(?!data\Z){_NAME}")


def read(value: object, faults: list[Fault], field: str = "filters") -> tuple[Filter, ...]:
    """Take the filters of a request; append what is wrong with them, and where, to `faults`."""
    reading = _Reading()
    found = reading.several(value, field, 1, at_least=0)
    if found is not None and len(msgspec.json.encode(value)) > MOST_BYTES:
        reading.fault(field, f"must be at most {MOST_BYTES} bytes of JSON")
    faults += reading.faults
    return tuple(value) if isinstance(value, list) and not reading.faults else ()


def wants(filters: Sequence[Filter]) -> Wants | None:
    """Compile filters that have been read: they say of stored attributes whether all hold.

    None where there is no filter, and everything is wanted.
    """
    if not filters:
        return None
    tests = _Reading().several(list(filters), "filters", 1)
    if tests is None:
        raise ValueError("these are no filters")

    holds = _every(tests)
    return lambda attributes: holds(Evaluation(attributes_of(attributes)))


def _every(tests: Sequence[Test]) -> Test:
    """All tests hold. A loop, for a generator would take longer than what is tested."""
    if len(tests) == 1:
        return tests[0]

    def test(evaluation: Evaluation) -> bool:
        for each in tests:  # noqa: SIM110
            if not each(evaluation):
                return False
        return True

    return test


def _some(tests: Sequence[Test]) -> Test:
    """At least one test holds."""

    def test(evaluation: Evaluation) -> bool:
        for each in tests:  # noqa: SIM110
            if each(evaluation):
                return True
        return False

    return test


class _Reading:
    """One walk through filters: what is wrong with them, and how many there are."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._count = 0

    def fault(self, field: str, message: str) -> None:
        """Note what is wrong, and where."""
        self.faults.append(Fault(field, message))

    def several(
        self, value: object, field: str, nesting: int, *, at_least: int = 1
    ) -> list[Test] | None:
        """Read a list of filters; None if any is wrong."""
        if not isinstance(value, list) or len(value) < at_least:
            least = "" if at_least == 0 else " one or more"
            self.fault(field, f"must be a list of{least} filters, each an object with one dialect")
            return None
        tests: list[Test] = []
        for position, each in enumerate(value):
            if self._count > MOST_FILTERS:
                break
            test = self._one(each, f"{field}[{position}]", nesting)
            if test is not None:
                tests.append(test)
        return tests if len(tests) == len(value) else None

    def _one(self, value: object, field: str, nesting: int) -> Test | None:
        self._count += 1
        if self._count > MOST_FILTERS:
            self.fault(field, f"is one too many: there may be at most {MOST_FILTERS} in all")
            return None
        if nesting > MOST_NESTING:
            self.fault(field, f"is nested too deeply: {MOST_NESTING} levels are allowed")
            return None
        if not isinstance(value, dict) or len(value) != 1:
            self.fault(field, f"must be an object with one dialect: {', '.join(_DIALECTS)}")
            return None
        ((dialect, content),) = value.items()
        read_dialect = _DIALECTS.get(dialect)
        if read_dialect is None:
            known = ", ".join(_DIALECTS)
            self.fault(f"{field}.{dialect}", f"is not a dialect; there are {known}")
            return None
        return read_dialect(self, content, f"{field}.{dialect}", nesting)

    def _attributes(
        self, value: object, field: str, compare: Callable[[str, str], bool]
    ) -> Test | None:
        """Read names and values; all of them have to compare."""
        if not isinstance(value, dict) or not value:
            self.fault(field, "must be an object of one or more attributes and their values")
            return None
        before = len(self.faults)
        for name, wanted in value.items():
            if not _ATTRIBUTE_NAME.fullmatch(name):
                rule = "attribute names are 1 to 64 lower-case letters and digits, and never data"
                self.fault(f"{field}.{name}", rule)
            elif not isinstance(wanted, str) or not wanted:
                self.fault(f"{field}.{name}", "must be a string that is not empty")
        if len(self.faults) > before:
            return None
        pairs = list(value.items())

        def test(evaluation: Evaluation) -> bool:
            attributes = evaluation.attributes
            for name, wanted in pairs:
                found = attributes.get(name)
                if found is None:
                    return False
                text = found if type(found) is str else text_of(found)
                if not compare(text, wanted):
                    return False
            return True

        return test

    def exact(self, value: object, field: str, _: int) -> Test | None:
        """All attributes have these values."""
        return self._attributes(value, field, str.__eq__)

    def prefix(self, value: object, field: str, _: int) -> Test | None:
        """The values of all attributes begin so."""
        return self._attributes(value, field, str.startswith)

    def suffix(self, value: object, field: str, _: int) -> Test | None:
        """The values of all attributes end so."""
        return self._attributes(value, field, str.endswith)

    def every(self, value: object, field: str, nesting: int) -> Test | None:
        """Every nested filter holds."""
        tests = self.several(value, field, nesting + 1)
        return None if tests is None else _every(tests)

    def some(self, value: object, field: str, nesting: int) -> Test | None:
        """At least one nested filter holds."""
        tests = self.several(value, field, nesting + 1)
        return None if tests is None else _some(tests)

    def negated(self, value: object, field: str, nesting: int) -> Test | None:
        """The nested filter does not hold."""
        test = self._one(value, field, nesting + 1)
        return None if test is None else lambda evaluation: not test(evaluation)

    def sql(self, value: object, field: str, _: int) -> Test | None:
        """An expression is true, and nothing goes wrong in it."""
        if not isinstance(value, str):
            self.fault(field, "must be a string: an expression of CloudEvents SQL")
            return None
        try:
            expression = Expression(value)
        except WrongExpression as wrong:
            self.fault(field, str(wrong))
            return None
        if expression.type not in {None, Type.BOOLEAN}:
            rule = f"has to be a Boolean; the value of this expression is of type {expression.type}"
            self.fault(field, rule)
            return None
        return expression.matches


_DIALECTS: Mapping[str, Callable[[_Reading, object, str, int], Test | None]] = {
    "exact": _Reading.exact,
    "prefix": _Reading.prefix,
    "suffix": _Reading.suffix,
    "all": _Reading.every,
    "any": _Reading.some,
    "not": _Reading.negated,
    "sql": _Reading.sql,
}

_PAIRS = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"pattern": f"^(?!data$){_NAME}$"},
    "additionalProperties": {"type": "string", "minLength": 1},
}
_NESTED = {"$ref": "#/components/schemas/Filter"}
_SEVERAL = {"type": "array", "items": _NESTED, "minItems": 1, "maxItems": MOST_FILTERS}
_CONTENTS: Mapping[str, Mapping[str, Any]] = {
    "exact": _PAIRS,
    "prefix": _PAIRS,
    "suffix": _PAIRS,
    "all": _SEVERAL,
    "any": _SEVERAL,
    "not": _NESTED,
    "sql": {"type": "string", "minLength": 1},
}


def filter_schema() -> dict[str, Any]:
    """Return the JSON Schema of one filter, which has the name Filter where filters are nested."""
    return {
        "description": "A filter in one of the dialects of the CloudEvents Subscriptions API; "
        f"there may be {MOST_FILTERS} in all, nested in {MOST_NESTING} levels",
        "type": "object",
        "properties": {
            name: {"description": (each.__doc__ or "").rstrip("."), **_CONTENTS[name]}
            for name, each in _DIALECTS.items()
        },
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
