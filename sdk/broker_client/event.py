"""The CloudEvent: what is published, and what a handler receives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
import uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A CloudEvents 1.0 event."""

    type: str
    source: str
    data: Any = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    subject: str | None = None
    time: datetime | None = field(default_factory=lambda: datetime.now(UTC))
    datacontenttype: str | None = None
    dataschema: str | None = None
    partitionkey: str | None = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the structured form."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Build an event from its structured form."""
        raise NotImplementedError

    @classmethod
    def from_http(cls, headers: Mapping[str, str], body: bytes) -> Self:
        """Build an event from a request."""
        raise NotImplementedError
