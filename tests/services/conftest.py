"""The services as apps and as processes, each on a database of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from sdk.loopback_broker import LoopbackBroker
from sdk.postgres_server import NoPostgres, PostgresServer, running_postgres
from services.gunicorn_process import GunicornProcess
from services.signed import SECRET

Build = Callable[..., Flask]
StartService = Callable[..., GunicornProcess]


@pytest.fixture
def loopback_broker() -> Iterator[LoopbackBroker]:
    """A broker of the test's own that keeps what it is sent."""
    with LoopbackBroker() as running:
        yield running


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
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet, in a folder that is not there yet."""
    return f"sqlite:///{tmp_path / 'data' / 'service.db'}"


@pytest.fixture
def postgresql_url(postgres: PostgresServer) -> str:
    """An empty schema of PostgreSQL's."""
    return postgres.url(postgres.new_schema())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def build(database_url: str, loopback_broker: LoopbackBroker) -> Iterator[Build]:
    """Build an app: `build(create_app, SHIPPING_STEP_S="0")`; it does not subscribe by itself."""
    built: list[Flask] = []

    def new(create_app: Callable[[dict[str, str]], Flask], **settings: str) -> Flask:
        defaults = {
            "DATABASE_URL": database_url,
            "BROKER_URL": loopback_broker.url,
            "BROKER_SUBSCRIBE": "false",
            "BROKER_WEBHOOK_SECRET": SECRET,
        }
        built.append(create_app(defaults | settings))
        return built[-1]

    yield new
    for app in built:
        for resource in {"database", "publisher"} & app.extensions.keys():
            app.extensions[resource].close()


@pytest.fixture
def launch_service(tmp_path: Path, loopback_broker: LoopbackBroker) -> Iterator[StartService]:
    """Launch a service without waiting: `launch_service("order_service", WEB_CONCURRENCY="2")`."""
    started: list[GunicornProcess] = []

    def launch(package: str, **settings: str) -> GunicornProcess:
        settings = {"BROKER_URL": loopback_broker.url, **settings}
        started.append(GunicornProcess(package, tmp_path, **settings))
        started[-1].launch()
        return started[-1]

    yield launch
    for process in started:
        process.close()
        print(process.log()[-20_000:])


@pytest.fixture
def start_service(launch_service: StartService) -> StartService:
    """Start a service and wait until it is ready."""
    return lambda package, **settings: launch_service(package, **settings).wait_until_ready()
