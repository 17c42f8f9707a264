"""The time that an id tells, where it is a UUIDv7 (RFC 9562, section 5.7)."""

from uuid import UUID


def made_at_of(id_: str) -> float | None:
    """Return the Unix time at which an id was made, None where it does not tell."""
    try:
        made = UUID(id_)
    except ValueError:
        return None
    return (made.int >> 80) / 1000 if made.version == 7 else None
