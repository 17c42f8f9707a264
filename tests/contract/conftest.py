"""Every test of the contract runs on every store.

`HYPOTHESIS_PROFILE=thorough` lets Hypothesis look for minutes instead of seconds.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from broker.store.port import Store
from contract.homes import Home, JetStreamHome, SqliteHome
from contract.messages import SUBSCRIPTION, TOPIC
from support.nats_server import NatsServer

settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

STORES = ("jetstream", "sqlite")


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the broker does."""
    return "asyncio"


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that all tests of the contract share."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.configure()
    yield server.start()
    server.close()


@pytest.fixture(params=STORES)
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Home]:
    """A place for a store, with nothing in it."""
    home: Home
    if request.param == "jetstream":
        home = JetStreamHome(tmp_path, request.getfixturevalue("nats").address)
    else:
        home = SqliteHome(tmp_path)
    yield home
    await home.close()


@pytest.fixture
async def store(home: Home) -> Store:
    """An open store with one topic and one subscription from its beginning."""
    store = await home.open()
    await store.create_topic(TOPIC, {"dedup_window_s": 60})
    await store.create_subscription(TOPIC, SUBSCRIPTION, {"endpoint": None}, start=1)
    return store
