"""What a broker that shares the work says to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broker.auth import Keys
from broker.sessions import Sessions
from broker.sharing.cluster import Cluster
from broker.sharing.key_follower import KeyFollower

pytestmark = pytest.mark.anyio


class Store:
    """Nobody's."""

    def owner(self) -> str | None:
        """Know nobody."""
        return None

    def follows(self) -> bool:
        """Have nothing."""
        return False


class Life:
    """A cell that is never owned."""

    store = Store()


class Speaks:
    """Reaches nobody."""

    def __init__(self, said: asyncio.Event) -> None:
        self._said = said

    async def open(self) -> None:
        """Connect."""

    async def say(self, _: bytes) -> None:
        """Note that something was said."""
        self._said.set()

    async def close(self) -> None:
        """Disconnect."""


async def test_broker_stops_also_while_somebody_signs_in() -> None:
    """To be told to say something is no reason to go on."""
    keys, said, nothing = Keys("admin-key-0123456789", on=True), asyncio.Event(), asyncio.Event()
    sessions = Sessions(keys)
    makes: Any = lambda _: Life()  # noqa: E731
    begins: Any = nothing.wait

    def follower(writes: Callable[[], bool]) -> KeyFollower:
        return KeyFollower(keys, lambda: None, writes)

    cluster = Cluster(
        "http://a",
        1,
        makes,
        begins,
        lambda error: pytest.fail(str(error)),
        lambda _: Speaks(said),
        keys,
        sessions,
        follower,
    )
    balancing = asyncio.create_task(cluster._balance())
    await said.wait()
    await asyncio.sleep(0.01)
    sessions.begin("admin-key-0123456789")
    await asyncio.sleep(0)  # it is told, and has not had its turn yet
    balancing.cancel()
    await asyncio.wait((balancing,), timeout=5)
    stopped = balancing.done()
    balancing.cancel()

    assert stopped
