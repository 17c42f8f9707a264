"""`GET /openapi.json`: the description of every call, made from what serves it.

Paths, methods and parameters of paths are those of the route map; what a call takes, answers and
refuses is what stands above its view; who may call it is what lets callers in.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec
from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.routing import Rule

from broker import __version__
from broker.api.problems import CONTENT_TYPE, Problem
from broker.auth import ADMINISTER, OPEN, Forbidden, Needs, Unauthorized
from broker.control.examples import EXAMPLES
from broker.control.operation import JSON, OPERATIONS, Content, Operation, Ref, operation
from broker.control.permissions import PAGES, PERMISSIONS
from broker.errors import BrokerError, HostNotAllowed, InvalidRequest, RouteNotFound
from broker.event_schema import event_schema, stored_event_schema
from broker.fields import Body
from broker.filters.dialects import filter_schema
from broker.model import MAX_SEQUENCE
from broker.names import PATTERN

Json: TypeAlias = dict[str, Any]

blueprint = Blueprint("openapi", __name__)

ABOUT = """\
A durable, ordered webhook broker: publish over HTTP, delivered to every subscriber.

Messages are [CloudEvents](https://cloudevents.io). A refusal is a problem document
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) with a stable `code`, a sentence that says what
to do, and the faulty fields, all at once; it has changed nothing. Times are RFC 3339 in UTC,
durations are seconds in fields that end in `_s`. Every answer has an `X-Request-Id`: the
caller's, or one of its own.
"""
# The blueprints, in the order of reading.
TAGS: Mapping[str, tuple[str, str]] = {
    "topics": ("Topics", "Named logs of messages"),
    "messages": ("Messages", "Publishing, and reading the log"),
    "scheduled": ("Scheduled messages", "Messages that wait for their `deliverat`"),
    "subscriptions": ("Subscriptions", "Who gets a topic's messages, how, and how far that is"),
    "deliveries": ("Deliveries", "What is not settled yet"),
    "dead_letters": ("Dead letters", "What was given up"),
    "pulls": ("Pull", "Deliveries without an endpoint"),
    "acks": ("Later", "The verdict on a delivery that was answered `later`"),
    "keys": ("API keys", "Who may do what"),
    "ops": ("Operations", "Health, metrics, and this description"),
    "original": ("The original example", "Its producers and consumers run unchanged"),
}
# By the name in the route map, with its converter where that is not the plain one.
PARAMETERS: Mapping[str, Json] = {
    "topic": {
        "description": "The topic's name",
        "schema": {"type": "string", "pattern": f"^{PATTERN}$"},
        "example": "order",
    },
    "name": {
        "description": "The subscription's name",
        "schema": {"type": "string", "pattern": f"^{PATTERN}$"},
        "example": "shipping",
    },
    "sequence-sequence": {
        "description": "The message's place in the log",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_SEQUENCE},
        "example": 1,
    },
    "anything-id_": {
        "description": "The event's `id`, percent-encoded",
        "schema": {"type": "string", "minLength": 1},
        "example": "reminder-1",
    },
    "id_": {
        "description": "The key's `id`",
        "schema": {"type": "string", "minLength": 1},
        "example": "a96fd2b1c7c4",
    },
    "token": {
        "description": "What ends the `webhook-ack-url`",
        "schema": {"type": "string", "minLength": 1},
        "example": "4kHb8zq1",
    },
}
REQUEST_ID = {
    "description": "The caller's `X-Request-Id`, or one made for this request",
    "schema": {"type": "string"},
}
RETRY_AFTER = {
    "description": "Seconds after which to try again",
    "schema": {"type": "integer", "minimum": 0},
}
ETAG = {"description": "For `If-None-Match`", "type": "string"}
_PLACE = re.compile(r"<(?:([a-z]+):)?([a-z_]+)>")


@blueprint.get("/openapi.json")
@operation(answers={200: Content({JSON: {"type": "object"}}, {"ETag": ETAG}), 304: None}, tag="ops")
def openapi() -> Response:
    """Describe every call, as OpenAPI 3.1."""
    document = current_app.extensions.get("openapi")
    if document is None:
        document = current_app.extensions["openapi"] = msgspec.json.encode(describe(current_app))
    response = Response(document, content_type=JSON)
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def describe(app: Flask) -> Json:
    """Return the OpenAPI document of an application; KeyError for a route without description."""
    paths: dict[str, Json] = {}
    components = _Components()
    for rule, known in _in_order(app):
        path = paths.setdefault(_path(rule), {})
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            path[method.lower()] = _described(rule, known, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Broker", "version": __version__, "description": ABOUT},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "tags": [{"name": name, "description": told} for name, told in TAGS.values()],
        "paths": paths,
        "components": {
            **components.all(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, where BROKER_API_KEYS is on",
                }
            },
        },
    }


class _Components:
    """What has a name in the document and stands there once."""

    def __init__(self) -> None:
        self._types: list[Any] = [Problem]
        self._named: Json = {
            "Event": event_schema(),
            "StoredEvent": stored_event_schema(),
            "Filter": filter_schema(),
        }
        self._refusals: Json = {}

    def reference(self, kind: Any) -> Json:
        """Return the schema of what may stand in a Content, by its name if it has one."""
        if isinstance(kind, Ref):
            return kind.schema()
        if isinstance(kind, Body):
            self._named[kind.name] = kind.schema()
            return Ref(kind.name).schema()
        if isinstance(kind, Mapping):
            return dict(kind)
        if isinstance(kind, tuple):
            return {"anyOf": [self.reference(each) for each in kind]}
        self._types.append(kind)
        (schema,), _ = msgspec.json.schema_components([kind], ref_template=_TEMPLATE)
        return schema

    def refusals(self, refusals: Sequence[type[BrokerError]]) -> Json:
        """Return the responses that refuse, one for each status."""
        found: Json = {}
        for status in sorted({refusal.status for refusal in refusals}):
            here = sorted((each for each in refusals if each.status == status), key=_code)
            name = "-or-".join(map(_code, here))
            self._refusals[name] = _refusal(status, here)
            found[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return found

    def all(self) -> Json:
        """Return them."""
        _, found = msgspec.json.schema_components(self._types, ref_template=_TEMPLATE)
        return {
            "schemas": dict(sorted({**found, **self._named}.items())),
            "responses": dict(sorted(self._refusals.items())),
            "parameters": {
                place: {"name": _name(place), "in": "path", "required": True, **told}
                for place, told in PARAMETERS.items()
            },
            "headers": {"X-Request-Id": REQUEST_ID, "Retry-After": RETRY_AFTER},
        }


def _code(refusal: type[BrokerError]) -> str:
    return refusal.code


def _name(place: str) -> str:
    return place.rpartition("-")[2].rstrip("_")


_TEMPLATE = "#/components/schemas/{name}"


def _in_order(app: Flask) -> list[tuple[Rule, Operation]]:
    found = [
        (rule, OPERATIONS[app.view_functions[rule.endpoint]])
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith(PAGES)
    ]
    order = list(TAGS)
    return sorted(found, key=lambda each: order.index(_tag(*each)))


def _tag(rule: Rule, known: Operation) -> str:
    return known.tag or rule.endpoint.partition(".")[0]


def _path(rule: Rule) -> str:
    return _PLACE.sub(lambda place: f"{{{place[2].rstrip('_')}}}", rule.rule)


def _described(rule: Rule, known: Operation, components: _Components) -> Json:
    name = rule.endpoint.partition(".")[2]
    needs = PERMISSIONS.get(rule.endpoint, ADMINISTER)
    examples = EXAMPLES.get(name, {})
    described: Json = {
        "operationId": name,
        "tags": [TAGS[_tag(rule, known)][0]],
        "summary": known.summary,
        "description": f"{known.description}\n\n{_told(needs)}".strip(),
        "parameters": _parameters(rule, known),
    }
    if isinstance(known.body, Body):
        body = Content({JSON: known.body})
        described["requestBody"] = {
            "required": bool(known.body.required or known.body.also.get("oneOf")),
            "content": _content(body, examples.get("body"), components),
        }
    elif known.body is not None:
        described["requestBody"] = {
            "required": known.body.required,
            "content": _content(known.body, examples.get("body"), components),
        }
    answers = {
        str(status): _answer(
            status,
            content,
            examples["answer"] if examples.get("status") == status else None,
            components,
        )
        for status, content in known.answers.items()
    }
    described["responses"] = {**answers, **components.refusals(_all_refusals(rule, known, needs))}
    described["security"] = [] if needs is OPEN else [{}, {"key": []}]
    return described


def _told(needs: Needs) -> str:
    if needs is OPEN:
        return "Needs no API key."
    on = {"topic": "for the topic", "all": "for all topics", "any": "for some topic"}[needs.on]
    if needs.actions == ("admin",):
        return "With API keys on it needs one with the scope `admin`."
    return f"With API keys on it needs one with the scope `{'` or `'.join(needs.actions)}` {on}."


def _parameters(rule: Rule, known: Operation) -> list[Json]:
    found: list[Json] = []
    for place in _PLACE.finditer(rule.rule):
        name = place[2] if place[1] is None else f"{place[1]}-{place[2]}"
        PARAMETERS[name]  # a KeyError here says that it has no description
        found.append({"$ref": f"#/components/parameters/{name}"})
    found += [
        {
            "name": query.name,
            "in": "query",
            "required": query.required,
            "description": query.description,
            "schema": dict(query.schema),
        }
        for query in known.query
    ]
    for name, schema in known.headers.items():
        plain = {key: value for key, value in schema.items() if key != "description"}
        found.append(
            {"name": name, "in": "header", "description": schema["description"], "schema": plain}
        )
    return found


def _content(content: Content, example: Any, components: _Components) -> Json:
    found: Json = {}
    for media_type, kind in content.types.items():
        found[media_type] = {"schema": components.reference(kind)}
        if isinstance(example, Mapping) and media_type in example:
            found[media_type]["example"] = example[media_type]
    return found


def _answer(status: int, content: Content | None, example: Any, components: _Components) -> Json:
    answer: Json = {
        "description": HTTPStatus(status).phrase,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}},
    }
    if content is None:
        return answer
    for name, schema in content.headers.items():
        plain = {key: value for key, value in schema.items() if key != "description"}
        answer["headers"][name] = {"description": schema["description"], "schema": plain}
    answer["content"] = _content(content, example, components)
    return answer


def _all_refusals(rule: Rule, known: Operation, needs: Needs) -> list[type[BrokerError]]:
    """Return the refusals of a call: those it names, and those that follow from its path."""
    found = [*known.refuses, HostNotAllowed]
    if needs is not OPEN:
        found += [Unauthorized, Forbidden]
    places = list(_PLACE.finditer(rule.rule))
    if any(place[2] in {"topic", "name"} for place in places):
        found.append(InvalidRequest)
    if places:
        found.append(RouteNotFound)  # a slash within a name leads elsewhere
    return list(dict.fromkeys(found))


def _refusal(status: int, refusals: Sequence[type[BrokerError]]) -> Json:
    headers: Json = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
    if any(each.retry_after_s is not None for each in refusals):
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = {"schema": {"const": "Bearer"}}
    told = {"code": {"enum": [each.code for each in refusals]}, "status": {"const": status}}
    schema = {**Ref("Problem").schema(), "properties": told}
    return {
        "description": "\n".join(
            f"- `{each.code}`: {(each.__doc__ or '').splitlines()[0]}" for each in refusals
        ),
        "headers": headers,
        "content": {CONTENT_TYPE: {"schema": schema}},
    }
