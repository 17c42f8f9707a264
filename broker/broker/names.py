"""Names of topics and subscriptions."""

import re

from broker.errors import Fault, InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def checked_name(field: str, name: str) -> str:
    """Return `name` if it may name a topic or subscription, else raise InvalidRequest."""
    if _NAME.fullmatch(name):
        return name
    rule = (
        "1 to 128 letters, digits, dots, underscores or hyphens, beginning with a letter or digit"
    )
    raise InvalidRequest([Fault(field, rule)])
