"""Refusals, as RFC 9457 problem documents, and the one place that turns errors into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from flask import Flask, Response, current_app, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

Parsed = TypeVar("Parsed", bound=BaseModel)


class Problem(Exception):
    """A request is refused: `code` is for programs, `detail` a sentence for people."""

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[Mapping[str, str]] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors


def register_problems(app: Flask) -> None:
    """Answer every error of the app with a problem document."""
    app.before_request(_refuse_nul)
    app.register_error_handler(Problem, _answer)
    app.register_error_handler(HTTPException, _answer_http_exception)


def read_body(model: type[Parsed]) -> Parsed:
    """Parse the request's JSON body. Raises Problem: 415, 400, or 422 with every fault in it."""
    if not request.is_json:
        raise Problem(415, "unsupported_media_type", "Send the body as application/json.")
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as fault:
        raise _refusal(fault) from None


def read_query(model: type[Parsed]) -> Parsed:
    """Parse the request's query parameters. Raises Problem 422 with every fault in it."""
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as fault:
        raise _refusal(fault) from None


def _refusal(fault: ValidationError) -> Problem:
    faults = fault.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return Problem(400, "malformed_json", f"Send a JSON document. {faults[0]['msg']}.")

    errors = [
        {"field": ".".join(map(str, each["loc"])) or "body", "message": each["msg"]}
        for each in faults
    ]
    fields = ", ".join(error["field"] for error in errors)
    return Problem(422, "invalid_request", f"Correct and send again: {fields}.", errors)


def _answer(problem: Problem) -> Response:
    document = {
        "type": f"https://errors.broker.example/{problem.code}",
        "title": problem.code.replace("_", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    if problem.errors:
        document["errors"] = problem.errors
    return Response(
        current_app.json.dumps(document), problem.status, content_type="application/problem+json"
    )


def _answer_http_exception(error: HTTPException) -> Response:
    code = error.name.lower().replace(" ", "_")
    answer = _answer(Problem(error.code or 500, code, error.description or error.name))
    answer.headers.extend(header for header in error.get_headers() if header[0] == "Allow")
    return answer


def _refuse_nul() -> None:
    # PostgreSQL's text cannot hold it, so nothing that is stored is ever named by it.
    if "\0" in request.path or b"%00" in request.query_string:
        raise Problem(400, "malformed_url", "Send a URL without %00 in it.")
