"""Which names the broker and the database take."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")


def check_name(kind: str, name: str) -> str:
    """Return a topic's or subscription's name. Raises ValueError for one the broker refuses."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no {kind} name: 1 to 128 letters, digits, '.', '_' or '-', "
            "the first a letter or digit"
        )
    return name


def check_table(name: str) -> str:
    """Return the name of a table. Raises ValueError unless it is a plain identifier."""
    if _TABLE.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no table name: up to 41 letters, digits and '_'")
    return name
