"""Every exchange with a broker, held against the description that the broker gives of itself.

A request that is answered with success is one that the description takes, and an answer is one of
those it names: by its status, media type, headers and body. What is described nowhere is refused as
such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx
from jsonschema_rs import Draft202012Validator

Json = dict[str, Any]

# Of these places alone a description cannot say with a pattern that they hold slashes, or digits.
PLACES = {"{id}": "(?P<id>.+)", "{sequence}": "(?P<sequence>[0-9]+)"}
NOWHERE = {401: "unauthorized", 404: "route_not_found", 405: "method_not_allowed"}
# The server's own, of what is no request to any application.
OF_THE_SERVER = {400, 408, 414, 431, 501, 505}
_JSON = "application/json"


class Description:
    """An OpenAPI document, which knows of each exchange what is wrong with it."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self._validators: dict[int, tuple[Json, Draft202012Validator]] = {}
        paths = sorted(document["paths"].items(), key=lambda item: item[0].count("{"))
        self._paths = [(_pattern(path), item) for path, item in paths]

    def faults(self, answer: httpx.Response) -> Iterator[str]:
        """Yield what an exchange has that the description has not."""
        if "x-request-id" not in answer.headers and answer.status_code in OF_THE_SERVER:
            return
        call, places = self.call(answer.request)
        if call is None:
            if answer.request.method != "OPTIONS":
                yield from _faults_of_nowhere(answer)
            return
        if answer.is_success:
            yield from self._parameter_faults(call, places, answer.request)
            yield from self._body_faults(call, answer.request)
        yield from self._answer_faults(call, answer)

    def call(self, request: httpx.Request) -> tuple[Json | None, dict[str, str]]:
        """Find the operation that a request asks for, and what its path has in which place."""
        path = unquote(request.url.raw_path.partition(b"?")[0].decode())
        method = "get" if request.method == "HEAD" else request.method.lower()
        for pattern, item in self._paths:
            found = pattern.fullmatch(path)
            if found is not None and method in item:
                return item[method], {
                    name: unquote(text) for name, text in found.groupdict().items()
                }
        return None, {}

    def resolved(self, part: Json) -> Json:
        """Follow a reference within the document."""
        while "$ref" in part:
            found: Any = self.document
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part

    def unfit(self, schema: Json, value: Any) -> str | None:
        """Say why a value does not fit a schema of the document."""
        _, validator = self._validators.get(id(schema), (None, None))
        if validator is None:
            whole = {**schema, "components": self.document["components"]}
            validator = Draft202012Validator(whole, validate_formats=True)
            self._validators[id(schema)] = schema, validator
        fault = next(iter(validator.iter_errors(value)), None)
        return None if fault is None else f"{list(fault.instance_path)}: {fault.message[:300]}"

    def _parameter_faults(
        self, call: Json, places: dict[str, str], request: httpx.Request
    ) -> Iterator[str]:
        query = dict(parse_qsl(request.url.query.decode(), keep_blank_values=True))
        given = {"path": places, "query": query, "header": request.headers}
        binary = "cloudevents" not in _media_type(request.headers)
        for parameter in map(self.resolved, call["parameters"]):
            name, where = parameter["name"], parameter["in"]
            text = given[where].get(name)
            if text is None:
                if parameter.get("required"):
                    yield f"taken without {name}"
            elif binary or not name.startswith("ce-"):
                fault = self.unfit(parameter["schema"], _read(text, parameter["schema"]))
                if fault is not None:
                    yield f"taken with the {where} parameter {name}={text!r}: {fault}"

    def _body_faults(self, call: Json, request: httpx.Request) -> Iterator[str]:
        body = call.get("requestBody")
        try:
            content = request.content
        except httpx.RequestNotRead:  # it was sent in pieces
            return
        if body is None:
            return
        if not content.strip():
            if body["required"]:
                yield "taken without a body"
            return
        media_type = _media_type(request.headers)
        like_json = _JSON if media_type == "" or media_type.endswith("json") else "*/*"
        found = body["content"].get(media_type) or body["content"].get(like_json)
        found = found or body["content"].get("*/*")
        if found is None:
            yield f"taken with {media_type}"
        elif not found["schema"].keys() <= {"description"}:
            fault = self.unfit(found["schema"], json.loads(content))
            if fault is not None:
                yield f"taken with the body {content[:200]!r}: {fault}"

    def _answer_faults(self, call: Json, answer: httpx.Response) -> Iterator[str]:
        found = call["responses"].get(str(answer.status_code))
        if found is None:
            yield "has a status that is not described"
            return
        found = self.resolved(found)
        for name in found["headers"].keys() - {"Location", "Retry-After"}:
            if name not in answer.headers:
                yield f"has no {name}"
        for name in {"Location", "Retry-After", "WWW-Authenticate"} - found["headers"].keys():
            if name in answer.headers:
                yield f"has a {name} that is not described"
        content = found.get("content")
        content_type = answer.headers.get("content-type", "")
        if content is None:
            if answer.content:
                yield "has a body that is not described"
        elif content_type not in content:
            yield f"is {content_type}, which is not described"
        elif _media_type(answer.headers).endswith("json") and answer.request.method != "HEAD":
            fault = self.unfit(content[content_type]["schema"], answer.json())
            if fault is not None:
                yield f"has {fault}"


def describing(base_url: str) -> Callable[[httpx.Response], None]:
    """Return a client's hook that raises AssertionError for what is not as described."""

    def look(answer: httpx.Response) -> None:
        if _media_type(answer.headers) != "text/event-stream":
            answer.read()
        description = _description(base_url)
        if description is None:
            return
        faults = list(description.faults(answer))
        request = answer.request
        assert not faults, (
            f"{request.method} {request.url.raw_path.decode()} -> {answer.status_code}, "
            f"which the description denies: {'; '.join(faults)}"
        )

    return look


_known: list[Description] = []


def _description(base_url: str) -> Description | None:
    """Ask for the description, once for all brokers; None while none is there to be asked."""
    if not _known:
        try:
            answer = httpx.get(f"{base_url}/openapi.json", trust_env=False)
        except httpx.TransportError:
            return None
        _known.append(Description(answer.raise_for_status().json()))
    return _known[0]


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"({[a-z]+})", path)
    return re.compile(
        "".join(
            PLACES.get(part, f"(?P<{part[1:-1]}>[^/]+)") if part[:1] == "{" else re.escape(part)
            for part in parts
        )
        + "/?"
    )


def _faults_of_nowhere(answer: httpx.Response) -> Iterator[str]:
    code = NOWHERE.get(answer.status_code)
    if code is None:
        yield "is described nowhere"
    elif answer.request.method != "HEAD" and answer.json()["code"] != code:
        yield f"is described nowhere, and not {code}"
    if answer.status_code == 405 and "allow" not in answer.headers:
        yield "does not say what is allowed"


def _media_type(headers: httpx.Headers) -> str:
    return str(headers.get("content-type", "")).partition(";")[0].strip().lower()


def _read(text: str, schema: Json) -> Any:
    """Read a parameter as its schema has it."""
    if schema.get("type") == "integer" and text.isascii() and text.isdigit():
        return int(text)
    if schema.get("type") == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    return text
