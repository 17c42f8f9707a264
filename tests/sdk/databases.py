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

    def forbid_deletes(self, table: str) -> None:
        """Have every DELETE from a table fail, and with it the transaction."""
        if self.engine.dialect.name == "sqlite":
            self.write(
                f"CREATE TRIGGER forbidden BEFORE DELETE ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'no deletes'); END"
            )
        else:
            self.write(
                "CREATE OR REPLACE FUNCTION no_deletes() RETURNS trigger AS "
                "$$ BEGIN RAISE EXCEPTION 'no deletes'; END $$ LANGUAGE plpgsql"
            )
            self.write(
                f"CREATE TRIGGER forbidden BEFORE DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION no_deletes()"
            )

    def allow_deletes(self, table: str) -> None:
        """Undo `forbid_deletes`."""
        on_table = "" if self.engine.dialect.name == "sqlite" else f" ON {table}"
        self.write(f"DROP TRIGGER forbidden{on_table}")
