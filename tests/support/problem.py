"""A refusal as RFC 9457 wants it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document, checked for its form when it is read."""

    status: int
    code: str
    detail: str
    errors: tuple[dict[str, Any], ...]

    @property
    def fields(self) -> list[str]:
        """The fields that the document finds fault with."""
        return [str(error["field"]) for error in self.errors]

    @property
    def text(self) -> str:
        """Everything a person could read in it, in lower case."""
        return f"{self.detail} {self.errors}".lower()

    def names(self, field: str) -> bool:
        """Say whether the document points at a field, alone or inside a path."""
        return any(field in re.split(r"[^A-Za-z0-9_-]+", named) for named in self.fields)


def read_problem(answer: httpx.Response, *statuses: int) -> Problem:
    """Check that an answer is a well-formed refusal with one of these statuses, and read it."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:500]}"
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type == "application/problem+json"
    assert answer.headers.get("x-request-id"), "no X-Request-Id"

    body = answer.json()
    assert body["status"] == answer.status_code
    assert isinstance(body["type"], str)
    assert body["type"]
    assert isinstance(body["title"], str)
    assert body["title"]
    assert isinstance(body["detail"], str)
    assert " " in body["detail"].strip(), "detail is no sentence"
    assert re.fullmatch(r"[a-z][a-z0-9_]*", body["code"]), body["code"]
    assert "Traceback" not in answer.text

    errors = body.get("errors", [])
    assert all(error["field"] and error["message"] for error in errors), errors
    return Problem(body["status"], body["code"], body["detail"], tuple(errors))
