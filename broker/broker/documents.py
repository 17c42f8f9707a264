"""Records restored from stored documents."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def known_fields(record: type[Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document has for a dataclass; fields of a newer broker are left out."""
    return {f.name: document[f.name] for f in fields(record) if f.name in document}
