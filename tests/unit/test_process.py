"""The worker process's memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from broker.auth import Keys
from broker.config import Settings
from broker.life import Life
from broker.process import fail, keep_memory
from broker.store.opening import open_store

pytestmark = pytest.mark.anyio


async def test_memory_of_a_life_that_has_ended_is_free_again(tmp_path: Path) -> None:
    settings = Settings(store=f"sqlite:///{tmp_path / 'broker.db'}")
    life = Life(settings, Keys(None, on=False), open_store(settings, fail), fail)
    await life.store.open()
    kept = weakref.ref(await life.begin(None))
    try:
        keep_memory()
        await life.end_deliveries()
        await life.let_go()
        del life
        assert kept() is not None, "it knows what knows it"
        keep_memory()
        assert kept() is None
    finally:
        gc.unfreeze()
