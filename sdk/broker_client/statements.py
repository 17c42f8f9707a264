"""The library's SQL: named statements from the files in `sql/`, for one table name."""

import re
from importlib.resources import files

from broker_client.names import check_table

_HEADING = re.compile(r"^-- (\w+):.*\n", re.MULTILINE)


def load(name: str, table: str) -> dict[str, str]:
    """Return the statements of `sql/<name>.sql` by name, written for `table`."""
    check_table(table)
    text = (files("broker_client") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text.replace("{table}", table))
    return {
        heading: statement.strip().removesuffix(";")
        for heading, statement in zip(parts[::2], parts[1::2], strict=True)
    }
