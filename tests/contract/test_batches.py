"""What may change any number of rows changes a few a commit, and a kill between two is harmless."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker.store.port import Shard, Store
from broker.store.sqlite import shard as sqlite_shard
from broker.store.sqlite.shard import SqliteShard
from contract.homes import Home
from contract.messages import SUBSCRIPTION as NAME
from contract.messages import TOPIC, fetch_all, own, publish_keys, put, row

pytestmark = pytest.mark.anyio
NONE = frozenset[int]()
COUNT = 40
FEW = 3


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_shard, "BATCH_ROWS", FEW)
    monkeypatch.setattr(sqlite_shard, "KEYS_AT_ONCE", FEW)


async def states(store: Store) -> dict[int, str]:
    found = await store.rows(TOPIC, NAME, ("retry", "held", "leased", "blocked", "dead"), 0, 1000)
    return {due.row.seq: due.row.state for due in found}


async def prepared(store: Store) -> Shard:
    """A shard with rows of every state below 31 of 40 messages, two of a key side by side."""
    shard = await own(store)
    await publish_keys(store, *(f"k{n // 2}" for n in range(COUNT)))
    await shard.fetch(COUNT)
    kinds = ("retry", "held", "dead", "retry", "blocked")
    rows = [row(seq, kinds[seq % 5], f"k{(seq - 1) // 2}") for seq in range(1, 31)]  # type: ignore[arg-type]
    await put(shard, *rows)
    return shard


async def cut_off(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[Any]], after: int
) -> None:
    """Begin an act and let it come no further than so many commits."""
    write, reached = SqliteShard._write, asyncio.Event()
    left = after

    async def limited(self: SqliteShard, statement: tuple[str, tuple[Any, ...]]) -> None:
        nonlocal left
        if left == 0:
            reached.set()
            await asyncio.Event().wait()
        left -= 1
        await write(self, statement)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteShard, "_write", limited)
        acting = asyncio.ensure_future(act())
        await reached.wait()
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)


@pytest.mark.parametrize("after", [1, 2, 5, 11])
async def test_seek_that_is_cut_off_is_whole_at_the_next_start(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    shard = await prepared(store)
    await cut_off(monkeypatch, lambda: shard.seek(20), after)

    store = await home.crash()

    shard = await own(store)
    assert await states(store) == dict.fromkeys((2, 7, 12, 17), "dead")
    assert await fetch_all(shard) == [*range(21, COUNT + 1)]
    assert shard.generation == 1
    await shard.seek(0)
    assert await states(store) == {}


async def test_seek_removes_rows_a_few_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = await prepared(store)
    await cut_off(monkeypatch, lambda: shard.seek(40), 3)

    assert len(await states(store)) >= 30 - 2 * FEW


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_replay_that_is_cut_off_leaves_each_letter_dead_or_owed(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    shard = await prepared(store)
    before = await states(store)
    await cut_off(monkeypatch, lambda: shard.replay(None, (), 1.0), after)

    store = await home.crash()

    shard = await own(store)
    await shard.regroup("key")
    now = await states(store)
    assert now.keys() == before.keys()
    dead = [seq for seq, state in now.items() if state == "dead"]
    were_dead = [seq for seq, state in before.items() if state == "dead"]
    assert dead == were_dead[len(were_dead) - len(dead) :]
    firsts: dict[str, str] = {}
    for seq, state in sorted(now.items()):
        if state != "dead":
            firsts.setdefault(f"k{(seq - 1) // 2}", state)
    assert "held" not in firsts.values()


async def test_rows_are_regrouped_as_by_one_statement(store: Store) -> None:
    shard = await prepared(store)

    await shard.regroup("key")
    grouped = await states(store)
    for key in {(seq - 1) // 2 for seq in grouped}:
        alive = [
            state
            for seq, state in sorted(grouped.items())
            if (seq - 1) // 2 == key and state != "dead"
        ]
        assert "held" not in alive[:1]
        assert "retry" not in alive[1:]
    await shard.regroup("none")
    assert "held" not in (await states(store)).values()


async def test_every_waiting_key_is_found(store: Store) -> None:
    shard = await prepared(store)
    alive = {(seq - 1) // 2 for seq, state in (await states(store)).items() if state != "dead"}

    assert list(await shard.waiting_keys(1000)) == sorted(f"k{n}" for n in alive)
    assert len(await shard.waiting_keys(5)) == 5


async def test_replay_says_how_many_it_replayed(store: Store) -> None:
    shard = await prepared(store)
    dead = [seq for seq, state in (await states(store)).items() if state == "dead"]

    assert await shard.replay([*dead[:4], 1, 999], (), 1.0) == 4
    assert await shard.replay(None, (), 1.0) == len(dead) - 4
    assert "dead" not in (await states(store)).values()
