"""What may change any number of rows changes a few a commit, and a kill between two is harmless."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker.store.port import Shard, Store
from broker.store.sqlite import batches
from broker.store.sqlite.batches import Batches
from contract.homes import Home
from contract.messages import SUBSCRIPTION as NAME
from contract.messages import TOPIC, fetch_all, own, publish_keys, put, row

pytestmark = pytest.mark.anyio
NONE = frozenset[int]()
COUNT = 40
FEW = 3


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_ROWS", FEW)
    monkeypatch.setattr(batches, "READ_ROWS", FEW)


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
    write, reached = Batches._write, asyncio.Event()
    left = after

    async def limited(self: Batches, *statements: tuple[str, tuple[Any, ...]]) -> None:
        nonlocal left
        if left == 0:
            reached.set()
            await asyncio.Event().wait()
        left -= 1
        await write(self, *statements)

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "_write", limited)
        acting = asyncio.ensure_future(act())
        reaching = asyncio.ensure_future(reached.wait())
        await asyncio.wait((acting, reaching), return_when=asyncio.FIRST_COMPLETED)
        assert not acting.done(), "there were not so many commits"
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


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_replay_that_is_cut_off_leaves_each_letter_dead_or_owed(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Each commit is whole: no key has two that are due, or one beside a lease or a blocked one."""
    shard = await own(store)
    # Of each key two dead letters; behind those of every other one a lease or a blocked delivery.
    await publish_keys(store, *(f"k{n // 4}" for n in range(COUNT)))
    await shard.fetch(COUNT)
    rows = []
    for key in range(COUNT // 4):
        rows += [row(4 * key + place, "dead", f"k{key}") for place in (1, 2)]
        if key % 4 == 1:
            rows.append(row(4 * key + 3, "leased", f"k{key}", due_at=9e9))
        if key % 4 == 3:
            rows.append(row(4 * key + 4, "blocked", f"k{key}"))
    await put(shard, *rows)
    before = await states(store)
    await cut_off(monkeypatch, lambda: shard.replay(None, ["k0"], 1.0), after)

    store = await home.crash()

    now = await states(store)
    assert now.keys() == before.keys()
    were_dead = [seq for seq, state in before.items() if state == "dead"]
    assert [seq for seq, state in now.items() if state == "dead"] == were_dead[after * FEW :]
    for key in range(COUNT // 4):
        of_key = [now[seq] for seq in range(4 * key + 1, 4 * key + 5) if seq in now]
        owed = [state for state in of_key if state != "dead"]
        if key == 0 or {"leased", "blocked"} & set(owed):
            assert "retry" not in owed
        else:
            assert owed in ([], ["retry"], ["retry", "held"])


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
