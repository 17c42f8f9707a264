"""Checks that a webhook request comes from the broker."""

from collections.abc import Iterable, Mapping


def verify(secret: str | Iterable[str], headers: Mapping[str, str], body: bytes) -> None:
    """Check a request's signature. Raises InvalidSignature."""
    raise NotImplementedError
