"""What a call takes, answers and refuses: said once, for the view and for its documentation.

`operation` stands above every view. It reads what it names and hands it to the view, so that what
is read is what is documented; the answers are those that the view's signature says it returns.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from flask import Response, request

from broker.control.bodies import json_object
from broker.errors import (
    BrokerError,
    EditConflict,
    InvalidRequest,
    MalformedRequest,
    MessageTooLarge,
    OutcomeUnknown,
    Overloaded,
    RequestTooSlow,
    RouteNotFound,
    StoreUnavailable,
    SubscriptionNotFound,
    TooManySubscriptions,
    TooManyTopics,
    TopicNotFound,
    UnsupportedContent,
)
from broker.fields import Body, Schema
from broker.queries import Query, read_query, require_only

View: TypeAlias = Callable[..., Any]
Put: TypeAlias = Literal[200, 201]  # updated, created
Refusals: TypeAlias = tuple[type[BrokerError], ...]

JSON = "application/json"
EVENT = "application/cloudevents+json; charset=UTF-8"

OF_TOPIC: Refusals = (TopicNotFound,)
OF_SUBSCRIPTION: Refusals = (TopicNotFound, SubscriptionNotFound)
OF_WRITING: Refusals = (OutcomeUnknown, StoreUnavailable)
OF_GROWING: Refusals = (TooManyTopics, TooManySubscriptions)
OF_EDITING: Refusals = (EditConflict, *OF_WRITING)
OF_READING: Refusals = (
    *(MalformedRequest, RequestTooSlow, MessageTooLarge, Overloaded),
    *(UnsupportedContent, InvalidRequest),
)

# Nothing is read from the body of these calls, which still has to be a JSON object.
NOTHING = Body("Nothing", {}, also={"additionalProperties": True})


@dataclass(frozen=True, slots=True)
class Ref:
    """A schema by its name in the document."""

    name: str

    def schema(self) -> dict[str, Any]:
        """Return what stands for it."""
        return {"$ref": f"#/components/schemas/{self.name}"}


@dataclass(frozen=True, slots=True)
class Content:
    """A body by its media types.

    Each has a type, a table of fields, a schema, the name of one (Ref), or several in a tuple, of
    which one fits. `headers` are those that come with it. A request may come without, unless
    it is `required`.
    """

    types: Mapping[str, Any]
    headers: Mapping[str, Schema] = field(default_factory=dict)
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """A call. `answers` has None for an answer without a body."""

    summary: str
    description: str
    query: tuple[Query, ...]
    headers: Mapping[str, Schema]
    body: Body | Content | None
    answers: Mapping[int, Content | None]
    refuses: Refusals
    in_front: bool
    tag: str | None


OPERATIONS: dict[View, Operation] = {}


def operation(
    *,
    query: Sequence[Query] = (),
    only_these: bool = False,
    headers: Mapping[str, Schema] | None = None,
    body: Body | Content | None = None,
    answers: Mapping[int, Content | None] | None = None,
    refuses: Sequence[type[BrokerError]] = (),
    in_front: bool = False,
    tag: str | None = None,
) -> Callable[[View], View]:
    """Describe a view, and have it handed what the description names.

    Every parameter of the query is an argument of the view; so is a `body`, as the JSON object that
    it is, if the view has such an argument. `only_these` refuses other parameters. `answers` are
    told where the view returns a Response of its own; `refuses` has the refusals that do not follow
    from the rest. What the front door answers by itself has a view that only stands in the route
    map (`in_front`): for the methods that the path has, and for its description. It is described
    among the calls of its blueprint, or of another `tag`.
    """

    def describe(view: View) -> View:
        has_body = "body" in inspect.signature(view).parameters

        @wraps(view)
        def answering(**arguments: Any) -> Response:
            if in_front:
                raise RouteNotFound(f"Nothing is served at {request.path}.")
            if only_these:
                require_only(query, request.args)
            arguments |= read_query(query, request.args)
            if isinstance(body, Body):
                given = json_object(request)
                if has_body:
                    arguments["body"] = given
            return rendered(view(**arguments))

        summary, _, rest = inspect.cleandoc(view.__doc__ or "").partition("\n")
        read = (InvalidRequest,) if query else ()
        OPERATIONS[answering] = Operation(
            summary.rstrip("."),
            rest.strip(),
            tuple(query),
            headers or {},
            body,
            _answers(view) if answers is None else answers,
            (*(OF_READING if isinstance(body, Body) else read), *refuses),
            in_front,
            tag,
        )
        return answering

    return describe


def rendered(returned: Any) -> Response:
    """Render what a view returned: a Response, a view of something, with a status, or nothing."""
    if isinstance(returned, Response):
        return returned
    if returned is None:
        return Response(status=204)
    answer, status = returned if isinstance(returned, tuple) else (returned, 200)
    return Response(msgspec.json.encode(answer), status, content_type=JSON)


def _answers(view: View) -> dict[int, Content | None]:
    """Read from a view's signature what it answers."""
    returned = get_type_hints(view)["return"]
    if returned is type(None):
        return {204: None}
    if get_origin(returned) is tuple:
        answer, statuses = get_args(returned)
        return {status: Content({JSON: answer}) for status in get_args(statuses)}
    return {200: Content({JSON: returned})}
