"""A PostgreSQL server of one's own, in a temporary folder, reached by its socket file only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from support.eventually import eventually

_INSTALLED = Path("/usr/lib/postgresql")


class NoPostgres(Exception):
    """PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)."""


class PostgresServer:
    """A running server; every `new_schema` is empty and of its own."""

    def __init__(self, folder: Path, user: str) -> None:
        self._folder = folder
        self._user = user
        self._count = 0

    def dsn(self, schema: str = "public") -> str:
        """What psycopg takes to connect."""
        return (
            f"host={self._folder} user={self._user} dbname=postgres "
            f"options='-c search_path={schema}'"
        )

    def url(self, schema: str) -> str:
        """What SQLAlchemy takes to connect."""
        return (
            f"postgresql+psycopg://{self._user}@/postgres?host={self._folder}"
            f"&options=-csearch_path%3D{schema}"
        )

    def new_schema(self) -> str:
        """Create a schema; return its name."""
        self._count += 1
        name = f"test_{self._count}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        return name


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server and stop it at the end. Raises NoPostgres where it is not installed."""
    programs = _programs()
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        owner = user if user is not None else pwd.getpwuid(os.getuid()).pw_name
        _initialise(programs, folder, user)
        process = _start(programs, folder, user)
        try:
            server = PostgresServer(folder, owner)
            eventually(lambda: _answers(server), within_s=30)
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nobody needs its data again
            process.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(_INSTALLED.glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise NoPostgres(NoPostgres.__doc__)
    return Path(on_path).resolve().parent


def _unprivileged_user() -> str | None:
    """The server refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _initialise(programs: Path, folder: Path, user: str | None) -> None:
    options = ["-D", str(folder / "data"), "--auth=trust", "--no-sync", "-E", "UTF8"]
    command = [str(programs / "initdb"), *options]
    subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True)


def _start(programs: Path, folder: Path, user: str | None) -> subprocess.Popen[bytes]:
    options = ["-D", str(folder / "data"), "-F", "-k", str(folder), "-h", ""]
    return subprocess.Popen(
        [str(programs / "postgres"), *options],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _answers(server: PostgresServer) -> bool:
    try:
        psycopg.connect(server.dsn()).close()
    except psycopg.OperationalError:
        return False
    return True
