"""Creating and updating what a PUT configures: topics and subscriptions."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from broker.cli.connection import Answer, Connection, Refusal
from broker.cli.failure import Refused


def create(
    connection: Connection, path: str, body: Mapping[str, Any], what: str, *, or_update: bool
) -> Answer:
    """Create something; refuse where it is there, unless it may be updated then."""
    if not or_update and _is_there(connection, path):
        raise Refused(f'{what} is there already. Change it with "update", or add --or-update.')
    return connection.send("PUT", path, body)


def update(connection: Connection, path: str, body: Mapping[str, Any], what: str) -> Answer:
    """Change something; refuse where it is not there, for a PUT would create it."""
    if not _is_there(connection, path):
        raise Refused(f'There is no {what[0].lower()}{what[1:]}. Make one with "create".')
    return connection.send("PUT", path, body)


def _is_there(connection: Connection, path: str) -> bool:
    try:
        connection.get(path)
    except Refusal as refusal:
        if refusal.status == HTTPStatus.NOT_FOUND and refusal.code is not None:
            return False
        raise
    return True
