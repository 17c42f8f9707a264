"""A database under test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker


@dataclass(frozen=True, slots=True)
class Site:
    """One database, reachable in the ways an application may choose."""

    engine: Engine
    connect: Callable[[], Any]
    sessions: sessionmaker[Session]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run a query in a transaction of its own."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def write(self, statement: str) -> None:
        """Run a statement in a transaction of its own."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)
