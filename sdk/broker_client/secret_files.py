"""Secrets that the environment names a file for, as containers are given them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class UnusableSecret(ValueError):
    """A secret cannot be read; the text names the variable and the file."""


def with_secrets(environ: Mapping[str, str], *variables: str) -> dict[str, str]:
    """Return the environment with what the files named by `<variable>_FILE` hold.

    Raises UnusableSecret where a file cannot be read or is empty, or both variables are set.
    """
    found = dict(environ)
    for variable in variables:
        file = environ.get(f"{variable}_FILE", "").strip()
        if not file:
            continue
        if environ.get(variable, "").strip():
            raise UnusableSecret(f"{variable} and {variable}_FILE are both set; allowed: one")
        try:
            found[variable] = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise UnusableSecret(
                f'{variable}_FILE is "{file}", which cannot be read: {why}'
            ) from None
        if not found[variable]:
            raise UnusableSecret(f'{variable}_FILE is "{file}", which is empty')
    return found
