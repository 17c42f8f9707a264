"""Refusals as RFC 9457 problem documents."""

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from broker.errors import BrokerError

CONTENT_TYPE = "application/problem+json"
_TYPES = "https://errors.broker.example/"


class FaultView(Struct):
    """One thing wrong with the request."""

    field: Annotated[str, Meta(description="The field, parameter or header that has it")]
    message: Annotated[str, Meta(description="What is allowed there")]


class Problem(Struct):
    """A refusal, as RFC 9457 has it."""

    type: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="What to do, in a sentence")]
    code: Annotated[str, Meta(description="The kind of refusal; it never changes")]
    errors: Annotated[
        list[FaultView] | UnsetType, Meta(description="Every fault of the request")
    ] = UNSET


def problem(error: BrokerError) -> bytes:
    """Render a refusal as JSON."""
    faults = [FaultView(fault.field, fault.message) for fault in error.faults]
    return msgspec.json.encode(
        Problem(
            type=_TYPES + error.code,
            title=error.title,
            status=error.status,
            detail=error.detail,
            code=error.code,
            errors=faults or UNSET,
        )
    )


class HttpRefusal(BrokerError):
    """HTTP itself refuses this request."""

    def __init__(self, status: int, detail: str | None = None) -> None:
        phrase = HTTPStatus(status).phrase
        self.status = status
        self.code = phrase.lower().replace(" ", "_").replace("-", "_")
        super().__init__(detail if detail is not None else f"{phrase}.")
        self.title = phrase
