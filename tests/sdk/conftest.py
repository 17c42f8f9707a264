"""Real databases and a broker on loopback for the client library's tests."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from broker_client import Publisher
from broker_client.database import Source
from sdk.databases import Site
from sdk.loopback_broker import LoopbackBroker
from sdk.postgres_server import NoPostgres, PostgresServer, running_postgres


@pytest.fixture
def broker() -> Iterator[LoopbackBroker]:
    """Run a broker on loopback."""
    with LoopbackBroker() as running:
        yield running


@pytest.fixture
def publisher(broker: LoopbackBroker) -> Iterator[Publisher]:
    """Publish to the broker on loopback, with next to no waits."""
    with Publisher(broker.url, min_backoff_s=0.001, max_backoff_s=0.002) as made:
        yield made


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run PostgreSQL; a laptop without it skips, CI fails."""
    try:
        with running_postgres() as server:
            yield server
    except NoPostgres as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture
def sqlite_site(tmp_path: Path) -> Iterator[Site]:
    """A SQLite file."""
    path = tmp_path / "application.db"
    yield from _site(f"sqlite:///{path}", lambda: sqlite3.connect(path))


@pytest.fixture
def postgresql_site(postgres: PostgresServer) -> Iterator[Site]:
    """An empty schema of a PostgreSQL database."""
    name = postgres.new_schema()
    yield from _site(postgres.url(name), lambda: psycopg.connect(postgres.dsn(name)))


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest) -> Site:
    """Each database in turn."""
    found: Site = request.getfixturevalue(f"{request.param}_site")
    return found


@pytest.fixture(params=["engine", "connect"])
def source(request: pytest.FixtureRequest, site: Site) -> Source:
    """Each way to name a database, for each database."""
    found: Source = getattr(site, request.param)
    return found


def _site(url: str, connect: Callable[[], Any]) -> Iterator[Site]:
    engine = create_engine(url)
    yield Site(engine, connect, sessionmaker(engine))
    engine.dispose()
