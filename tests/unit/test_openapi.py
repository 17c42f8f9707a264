"""The description of the calls is made from what serves them, and leaves nothing out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from flask import Flask
from jsonschema_rs import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31

from broker.auth import Keys
from broker.control import Bridge, create_app
from broker.control.openapi import describe
from broker.control.operation import OPERATIONS
from broker.errors import BrokerError

Json = dict[str, Any]


@pytest.fixture(scope="module")
def app() -> Flask:
    """The application, with no broker behind it."""
    return create_app(cast(Bridge, None), Keys(None, on=False))


@pytest.fixture(scope="module")
def document(app: Flask) -> Json:
    """The description of its calls."""
    return describe(app)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield path, method and operation of every call."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(part: Any) -> Iterator[str]:
    """Yield what a part of the document refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def test_document_is_openapi(document: Json) -> None:
    Draft202012Validator(OPENAPI_31).validate(document)


def test_every_route_has_a_description_and_every_description_a_route(app: Flask) -> None:
    assert set(app.view_functions.values()) == set(OPERATIONS)


def test_every_route_is_in_the_document_with_its_methods(app: Flask, document: Json) -> None:
    routes = {
        (rule.endpoint.partition(".")[2], method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(found["operationId"], method) for _, method, found in operations(document)}
    assert described == routes


def test_route_without_a_description_makes_no_document() -> None:
    app = create_app(cast(Bridge, None), Keys(None, on=False))
    app.add_url_rule("/v1/forgotten", "topics.forgotten", lambda: "")
    with pytest.raises(KeyError):
        describe(app)


def test_operations_have_names_of_their_own(document: Json) -> None:
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_references_lead_to_something_and_everything_is_referred_to(document: Json) -> None:
    there = {
        f"#/components/{kind}/{name}"
        for kind, parts in document["components"].items()
        if kind != "securitySchemes"
        for name in parts
    }
    assert set(references(document)) == there


def test_every_schema_is_one(document: Json) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator({**schema, "components": document["components"]})


def test_refusals_have_codes_that_there_are(document: Json) -> None:
    def below(kind: type[BrokerError]) -> Iterator[type[BrokerError]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    statuses = {each.code: each.status for each in below(BrokerError)}
    for response in document["components"]["responses"].values():
        told = response["content"]["application/problem+json"]["schema"]["properties"]
        for code in told["code"]["enum"]:
            assert statuses[code] == told["status"]["const"]


def test_only_open_calls_are_said_to_need_no_key(document: Json) -> None:
    without = {found["operationId"] for *_, found in operations(document) if not found["security"]}
    assert without == {"conclude", "healthz", "readyz", "openapi", "docs"}
    for *_, found in operations(document):
        assert ("401" in found["responses"]) is bool(found["security"])
