"""Refusals as RFC 9457 problem documents."""

from http import HTTPStatus

import msgspec

from broker.errors import BrokerError

CONTENT_TYPE = "application/problem+json"
_TYPES = "https://errors.broker.example/"


def problem(error: BrokerError) -> bytes:
    """Render a refusal as JSON."""
    document = {
        "type": _TYPES + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.faults:
        document["errors"] = [
            {"field": fault.field, "message": fault.message} for fault in error.faults
        ]
    return msgspec.json.encode(document)


class HttpRefusal(BrokerError):
    """HTTP itself refuses this request."""

    def __init__(self, status: int, detail: str | None = None) -> None:
        phrase = HTTPStatus(status).phrase
        self.status = status
        self.code = phrase.lower().replace(" ", "_").replace("-", "_")
        super().__init__(detail if detail is not None else f"{phrase}.")
        self.title = phrase
