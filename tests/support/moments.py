"""Moments near now, written as CloudEvents want them (RFC 3339)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def ahead(seconds: float) -> str:
    """Write the moment that many seconds from now; a negative number is past."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def has_come(moment: str) -> bool:
    """Say whether a moment is now or past."""
    return datetime.now(UTC) >= datetime.fromisoformat(moment)
