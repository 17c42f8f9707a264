"""`GET /docs`: the description of every call as a page that needs no script and no other host."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

from flask import Blueprint, Response, current_app, render_template
from markupsafe import Markup, escape

from broker.control.openapi import describe
from broker.control.operation import Content, operation

Json: TypeAlias = Mapping[str, Any]

HTML = "text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "maxLength": "{} characters at most",
    "minItems": "{} or more",
    "maxItems": "{} at most",
    "maxProperties": "{} at most",
}
_LONGEST_PATTERN = 50
_SPAN = re.compile(r"`([^`]+)`|\[([^\]]+)\]\((https://[^)]+)\)")

blueprint = Blueprint("docs", __name__, template_folder="templates")


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter or a field."""

    name: str
    kind: Markup
    description: str
    required: bool
    default: str | None


@blueprint.get("/docs")
@operation(answers={200: Content({HTML: {"type": "string"}})}, tag="ops")
def docs() -> Response:
    """Describe every call, for people."""
    known = current_app.extensions.get("docs")
    if known is None:
        known = current_app.extensions["docs"] = _rendered(describe(current_app))
    page, style = known
    response = Response(page, content_type=HTML)
    response.headers["Content-Security-Policy"] = POLICY.format(style)
    response.headers["Cache-Control"] = "no-cache"
    return response


def _rendered(document: Json) -> tuple[str, str]:
    """Return the page, and the digest of the only style that it has: its own."""
    style = render_template("docs.css")
    page = render_template("docs.html", page=Page(document), text=text, pretty=pretty)
    return page, b64encode(sha256(style.encode()).digest()).decode()


def text(written: str) -> Markup:
    """Render the little Markdown that descriptions have: code, links, lists and paragraphs."""
    blocks = [block.strip() for block in written.split("\n\n") if block.strip()]
    return Markup("").join(map(_block, blocks))


def _block(block: str) -> Markup:
    if not block.startswith("- "):
        return Markup("<p>{}</p>").format(_line(block))
    items = [Markup("<li>{}</li>").format(_line(item)) for item in block[2:].split("\n- ")]
    return Markup("<ul>{}</ul>").format(Markup("").join(items))


def _line(line: str) -> Markup:
    parts = [Markup("")]
    end = 0
    for span in _SPAN.finditer(line):
        parts.append(escape(line[end : span.start()]))
        code, label, url = span.groups()
        if code is not None:
            parts.append(Markup("<code>{}</code>").format(code))
        else:
            parts.append(Markup('<a href="{}">{}</a>').format(url, label))
        end = span.end()
    return Markup("").join([*parts, escape(line[end:])])


class Page:
    """A document as its page shows it."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.types = document["components"]["schemas"]

    def groups(self) -> Iterator[tuple[Json, list[tuple[str, str, Json]]]]:
        """Yield each tag with its calls: method, path and operation."""
        for tag in self.document["tags"]:
            yield (
                tag,
                [
                    (method.upper(), path, call)
                    for path, item in self.document["paths"].items()
                    for method, call in item.items()
                    if tag["name"] in call["tags"]
                ],
            )

    def resolved(self, part: Json) -> Json:
        """Follow a reference within the document."""
        while "$ref" in part:
            found: Any = self.document
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part

    def parameters(self, call: Json, where: str) -> list[Row]:
        """Return the parameters of a call that stand in its path, query or headers."""
        found = [self.resolved(each) for each in call["parameters"]]
        return [
            self._row(
                each["name"], each["schema"], each["description"], each.get("required", False)
            )
            for each in found
            if each["in"] == where
        ]

    def fields(self, schema: Json, prefix: str = "") -> Iterator[Row]:
        """Yield the fields of an object, and those of objects within it."""
        required = schema.get("required", ())
        for name, each in schema.get("properties", {}).items():
            yield self._row(prefix + name, each, each.get("description", ""), name in required)
            if "properties" in each:
                yield from self.fields(each, f"{prefix}{name}.")

    def answers(self, call: Json) -> Iterator[tuple[str, Json]]:
        """Yield status and answer where a call does what it is asked for."""
        for status, answer in call["responses"].items():
            if int(status) < 400:
                yield status, self.resolved(answer)

    def refusals(self, call: Json) -> Iterator[tuple[str, Markup]]:
        """Yield status and codes where a call refuses."""
        for status, answer in call["responses"].items():
            if int(status) >= 400:
                yield status, text(self.resolved(answer)["description"])

    def kind(self, schema: Json) -> Markup:
        """Say what may stand where a schema does."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return Markup('<a href="#type-{0}">{0}</a>').format(name)
        if "const" in schema:
            return Markup("<code>{}</code>").format(_json(schema["const"]))
        if "enum" in schema:
            found = [Markup("<code>{}</code>").format(_json(each)) for each in schema["enum"]]
            return Markup(" or ").join(found)
        if "anyOf" in schema:
            return Markup(" or ").join(map(self.kind, schema["anyOf"]))
        kinds = schema.get("type", "anything")
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        return Markup(" or ").join(self._plain(kind, schema) for kind in kinds)

    def _plain(self, kind: str, schema: Json) -> Markup:
        if kind == "array" and "items" in schema:
            told = Markup("array of {}").format(self.kind(schema["items"]))
        elif kind == "string" and "format" in schema:
            told = escape(schema["format"])
        elif kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
            told = Markup("object of {}").format(self.kind(schema["additionalProperties"]))
        else:
            told = escape(kind)
        if kind == "null":
            return told
        limits = [
            say.format(_json(schema[name])) for name, say in _LIMITS.items() if name in schema
        ]
        if len(schema.get("pattern", "")) in range(1, _LONGEST_PATTERN) and "format" not in schema:
            limits.append(f"like {schema['pattern']}")
        return told + (f", {' '.join(limits)}" if limits else "")

    def _row(self, name: str, schema: Json, description: str, required: bool) -> Row:
        default = _json(schema["default"]) if schema.get("default") is not None else None
        return Row(name, self.kind(schema), description, required, default)


def pretty(value: Any) -> str:
    """Write an example."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
