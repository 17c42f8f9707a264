"""How hard Hypothesis looks: `HYPOTHESIS_PROFILE=thorough` takes minutes instead of seconds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from contract.homes import SqliteHome
from unit.pump_world import SUBSCRIPTION, PumpWorld
from unit.sqlite_stores import TOPIC, WINDOW_S, Stores

settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the broker does."""
    return "asyncio"


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PumpWorld]:
    """A pump at work; the test may give its subscription's fields (`with_fields`)."""
    fields: dict[str, Any] = getattr(request, "param", {})
    made = PumpWorld(SqliteHome(tmp_path), replace(SUBSCRIPTION, **fields))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    """A store with one topic."""
    opened = Stores(tmp_path)
    await opened.open()
    await opened.store.create_topic(TOPIC, {"dedup_window_s": WINDOW_S})
    yield opened
    await opened.store.close()
