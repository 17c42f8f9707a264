"""How hard Hypothesis looks: `HYPOTHESIS_PROFILE=thorough` takes minutes instead of seconds."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the broker does."""
    return "asyncio"
