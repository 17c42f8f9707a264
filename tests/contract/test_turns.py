"""What one turn of the event loop asks of SQLite does not grow with the rows of a subscription.

Counted in instructions of SQLite's machine, by the connections that the event loop uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.model import ExceptionRow, NewMessage, RowState
from broker.store.port import Changes, Shard
from broker.store.sqlite import SqliteStore, batches
from broker.store.sqlite import store as sqlite_store
from contract.homes import SqliteHome
from contract.messages import SUBSCRIPTION, TOPIC, own

pytestmark = pytest.mark.anyio

FEW, MANY = 400, 2400
BATCH = 50
STEP = 10
ROOM = 1.5  # trees of more rows are higher
NONE = frozenset[int]()
Act = Callable[[SqliteStore, Shard, int], Awaitable[Any]]


class Turns:
    """Counts the instructions of each turn of the event loop; `longest` is the most of one."""

    def __init__(self, store: SqliteStore) -> None:
        self.longest = 0
        self._steps = 0
        for connection in (store._writer, store._reader):
            connection.set_progress_handler(self._count, STEP)

    def _count(self) -> int:
        self._steps += STEP
        return 0

    async def watch(self) -> None:
        """Look at every turn, for ever."""
        while True:
            self._steps = 0
            await asyncio.sleep(0)
            self.longest = max(self.longest, self._steps)


def one_key(_: int) -> str | None:
    return "k"


def few_keys(seq: int) -> str | None:
    return f"k{seq % 7}"


def each_its_own(seq: int) -> str | None:
    return f"k{seq}"


def all_in(state: RowState) -> Callable[[int], RowState]:
    return lambda _: state


def held_but(first: RowState) -> Callable[[int], RowState]:
    return lambda seq: first if seq <= 7 else "held"


ACTS: dict[str, tuple[Callable[[int], RowState], Act]] = {
    "seek to the beginning": (all_in("dead"), lambda _, shard, __: shard.seek(0)),
    "seek to the end": (all_in("held"), lambda _, shard, count: shard.seek(count)),
    "replay of all": (all_in("dead"), lambda _, shard, __: shard.replay(None, ["k", "k1"], 1.0)),
    "replay of one": (
        lambda seq: "dead" if seq == 9 else "held",
        lambda _, shard, __: shard.replay([9], [], 1.0),
    ),
    "replay of many": (
        all_in("dead"),
        lambda _, shard, count: shard.replay(range(1, count + 1), [], 1.0),
    ),
    "free": (all_in("held"), lambda _, shard, __: shard.regroup("none")),
    "group": (all_in("retry"), lambda _, shard, __: shard.regroup("key")),
    "group again": (held_but("retry"), lambda _, shard, __: shard.regroup("key")),
    "keys": (all_in("held"), lambda _, shard, __: shard.waiting_keys(10**6)),
    "leases": (all_in("leased"), lambda _, shard, __: shard.leases()),
    "next of a key": (held_but("retry"), lambda _, shard, __: shard.held("k", 0, BATCH)),
    "next of a leased key": (held_but("leased"), lambda _, shard, __: shard.held("k", 0, BATCH)),
    "next of a key that only waits": (
        all_in("held"),
        lambda _, shard, __: shard.held("k", 0, BATCH),
    ),
    "first of a key": (all_in("held"), lambda _, shard, __: shard.first_of("k")),
    "first of some keys": (all_in("held"), lambda _, shard, __: shard.firsts(["k", "x"])),
    "whether a key waits": (all_in("held"), lambda _, shard, __: shard.waiting_among(["k", "x"])),
    "what is due": (all_in("retry"), lambda _, shard, __: shard.due(1.0, BATCH, NONE)),
    "when it is due": (all_in("retry"), lambda _, shard, __: shard.next_due_at(NONE)),
    "what is owed": (all_in("retry"), lambda _, shard, __: shard.owed(BATCH, NONE)),
    "what is owed behind dead letters": (
        all_in("dead"),
        lambda _, shard, __: shard.owed(BATCH, NONE),
    ),
    "give up": (
        all_in("held"),
        lambda _, shard, count: shard.give_up(count, 1.0, NONE, "too_old", BATCH, 1.0),
    ),
    "give up nothing": (
        all_in("leased"),
        lambda _, shard, count: shard.give_up(count, 1.0, NONE, "too_old", BATCH, 1.0),
    ),
    "forget dead letters": (
        all_in("dead"),
        lambda store, _, __: store.drop_dead(TOPIC, SUBSCRIPTION, 10**9),
    ),
    "look at them": (
        all_in("held"),
        lambda store, _, __: store.rows(TOPIC, SUBSCRIPTION, ("held",), 0, BATCH),
    ),
    "stats": (all_in("held"), lambda store, _, __: store.shard_stats(TOPIC, SUBSCRIPTION)),
    "standings": (all_in("held"), lambda store, _, __: store.standings()),
}


async def longest_turn(
    folder: Path,
    count: int,
    key_of: Callable[[int], str | None],
    state_of: Callable[[int], RowState],
    act: Act,
) -> int:
    """Return the most instructions in a turn of an act on a subscription with so many rows."""
    home = SqliteHome(folder)
    store = home.store()
    await store.open()
    await store.create_topic(TOPIC, {})
    await store.create_subscription(TOPIC, SUBSCRIPTION, {}, start=1)
    shard = await own(store)
    seqs = range(1, count + 1)
    messages = [NewMessage("id", "/s", key_of(seq), b"{}", None, None) for seq in seqs]
    await store.append(TOPIC, messages)
    while await shard.fetch(count):
        pass
    rows = [ExceptionRow(seq, key_of(seq), state_of(seq), 1, 0.0, "", False) for seq in seqs]
    await shard.commit(Changes(put=rows), soon=True)

    turns = Turns(store)
    watching = asyncio.ensure_future(turns.watch())
    await asyncio.sleep(0)
    await act(store, shard, count)
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await store.close()
    return turns.longest


@pytest.mark.parametrize("key_of", [one_key, few_keys, each_its_own])
@pytest.mark.parametrize("name", ACTS)
async def test_turn_costs_no_more_with_more_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key_of: Callable[[int], str | None]
) -> None:
    monkeypatch.setattr(batches, "BATCH_ROWS", BATCH)
    monkeypatch.setattr(batches, "READ_ROWS", BATCH)
    monkeypatch.setattr(sqlite_store, "BATCH_ROWS", BATCH)
    state_of, act = ACTS[name]
    for folder in ("few", "many"):
        (tmp_path / folder).mkdir()

    few = await longest_turn(tmp_path / "few", FEW, key_of, state_of, act)
    many = await longest_turn(tmp_path / "many", MANY, key_of, state_of, act)

    assert many <= ROOM * few + 20 * BATCH
