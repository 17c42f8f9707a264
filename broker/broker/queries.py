"""Parameters in the query string."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from broker.cloudevents import URI_REFERENCE
from broker.errors import Fault, InvalidRequest
from broker.fields import Schema, ecma
from broker.model import MAX_SEQUENCE
from broker.names import PATTERN
from broker.service import MAX_PAGE
from broker.turns import START, TURN, parse_turn
from broker.views import Unsettled


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter: `read` returns what its text says, or raises ValueError with what may stand.

    `default` is what its absence says; `argument` is what the view calls it.
    """

    name: str
    read: Callable[[str], Any]
    schema: Schema
    description: str
    default: Any = None
    required: bool = False
    argument: str = ""


def read_query(parameters: Sequence[Query], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of each parameter. Raises InvalidRequest that names every fault."""
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for parameter in parameters:
        text = given.get(parameter.name)
        if text is None and not parameter.required:
            values[parameter.argument or parameter.name] = parameter.default
            continue
        try:
            values[parameter.argument or parameter.name] = parameter.read(text or "")
        except ValueError as error:
            faults.append(Fault(parameter.name, str(error)))
    if faults:
        raise InvalidRequest(faults)
    return values


def require_only(parameters: Sequence[Query], given: Mapping[str, str]) -> None:
    """Refuse parameters that the call does not have."""
    known = [parameter.name for parameter in parameters]
    rule = f"is not a parameter; there are {', '.join(known)}"
    faults = [Fault(name, rule) for name in given if name not in known]
    if faults:
        raise InvalidRequest(faults)


def _whole(name: str, default: int, low: int, high: int, description: str) -> Query:
    def read(text: str) -> int:
        plain = text.isascii() and text.isdigit() and len(text) <= 16
        if not plain or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return Query(name, read, schema, description, default)


def _text(name: str, description: str, argument: str = "", **schema: Any) -> Query:
    return Query(name, str, {"type": "string", **schema}, description, argument=argument)


def _needed(name: str, description: str) -> Query:
    def read(text: str) -> str:
        if not text:
            raise ValueError("is needed in the query")
        return text

    schema = {"type": "string", "pattern": f"^{PATTERN}$"}
    return Query(name, read, schema, description, required=True)


def _read_state(text: str) -> str:
    if text not in _STATES:
        raise ValueError(f"must be {' or '.join(_STATES)}")
    return text


def _read_flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _read_turn(text: str) -> Any:
    try:
        return parse_turn(text)
    except InvalidRequest as wrong:
        raise ValueError(wrong.faults[0].message) from None


_STATES: tuple[str, ...] = get_args(Unsettled)

AFTER = _whole("after", 0, 0, MAX_SEQUENCE, "What comes after this sequence: `next` of a page")
LIMIT = _whole("limit", 100, 1, MAX_PAGE, "How many at most")
PAGE = (AFTER, LIMIT)
AFTER_TURN = Query(
    "after",
    _read_turn,
    {"type": "string", "pattern": f"^({START}|{TURN})$", "default": START},
    "What comes after this: `next` of a page",
    parse_turn(START),
)
FROM = replace(
    AFTER,
    default=None,
    schema={"type": "integer", "minimum": 0, "maximum": MAX_SEQUENCE},
    description="Begin after this sequence; if not given, with what comes from now on",
)
KEY = _text("key", "Only messages with this `partitionkey`")
TYPE = _text("type", "Only messages of this type", argument="type_")
STREAM = (FROM, KEY, TYPE)
SOURCE = _text(
    "source",
    "The event's `source`; `/topics/{topic}` if not given, as in publishing",
    pattern=ecma(URI_REFERENCE),
)
STATE = Query(
    "state",
    _read_state,
    {"type": "string", "enum": list(_STATES)},
    "Which deliveries: those that wait for their next attempt, that are out or leased, that are "
    "blocked, or that wait behind their key",
    required=True,
)
FORCE = Query(
    "force",
    _read_flag,
    {"type": "boolean", "default": False},
    "Delete its subscriptions as well",
    default=False,
)
SUBSCRIBER = (
    _needed("topic", "The topic's name"),
    _needed("subscriber", "The subscriber's name"),
)
