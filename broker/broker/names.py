"""Names of topics, subscriptions and keys."""

import re
from urllib.parse import quote

from broker.errors import Fault, InvalidRequest
from broker.fields import Field

PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_RULE = "1 to 128 letters, digits, dots, underscores or hyphens, beginning with a letter or digit"
_name = re.compile(PATTERN)


def checked_name(field: str, name: str) -> str:
    """Return `name` if it may name a topic or subscription, else raise InvalidRequest."""
    if _name.fullmatch(name):
        return name
    raise InvalidRequest([Fault(field, _RULE)])


def name() -> Field:
    """A name in a field."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not _name.fullmatch(value):
            raise ValueError(_RULE)
        return value

    return Field(check, {"type": "string", "pattern": f"^{PATTERN}$"})


def path_segment(text: str) -> str:
    """Write any text as one segment of a path.

    Not even dots are left as they are: a path that ends in two of them leads elsewhere.
    """
    return quote(text, safe="").replace(".", "%2E")
