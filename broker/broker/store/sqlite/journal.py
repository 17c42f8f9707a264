"""Where a group is made durable, if that is not the file's own doing."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

# A statement, and what it was executed with, row by row.
Execution: TypeAlias = tuple[str, Sequence[Sequence[Any]]]


class Journal(Protocol):
    """Has every statement that the owner's groups execute, in order.

    Whoever executes the same on an empty file has the same file.
    """

    standing_by: asyncio.Event  # another broker owns it, or nobody can be reached

    @property
    def caught_up(self) -> bool:
        """Say, while it is followed, whether nothing more is to come at the moment."""

    async def take_over(self, path: Path, lost: Callable[[str], None]) -> None:
        """Wait until this broker owns the journal, and make the file what the journal says.

        `lost` is called with the reason when it owns it no longer.
        """

    async def append(self, connection: sqlite3.Connection, executed: Sequence[Execution]) -> None:
        """Make durable what the open transaction has executed; its COMMIT follows.

        Raises LeaseLost where another broker owns the journal, Unavailable if the outcome is
        unknown.
        """

    async def condense(self) -> None:
        """Keep what the file has now, and nothing of how it came to that. Raises StoreError."""

    async def let_go(self, follower: str | None) -> None:
        """Leave the journal to others, once the last group is committed.

        Others than `follower`, the URL of a broker, hold off as if the lease went on.
        """

    def owner(self) -> str | None:
        """Return the URL of the broker that owns it, None where that is unknown or this one."""

    def rpc_owner(self) -> str | None:
        """Return where the gRPC of that broker is, a host and a port, None likewise."""

    def may_send_until(self) -> float:
        """Return the time, as boot_time has it, until which this broker surely owns it."""


class Executes(Protocol):
    """What those who write in a group need of a connection."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> object:
        """Execute a statement that changes something."""

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> object:
        """Execute a statement that changes something once for each row."""


class Recorder:
    """Executes statements, and remembers them."""

    def __init__(self, connection: Executes) -> None:
        self._connection = connection
        self._executed: list[Execution] = []

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> object:
        """Execute a statement that changes something."""
        self._executed.append((sql, (parameters,)))
        return self._connection.execute(sql, parameters)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> object:
        """Execute a statement that changes something once for each row."""
        if rows:
            self._executed.append((sql, rows))
        return self._connection.executemany(sql, rows)

    def take(self) -> Sequence[Execution]:
        """Return what has been executed since the last call."""
        executed, self._executed = self._executed, []
        return executed
