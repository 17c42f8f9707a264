"""Trimming, giving up and purging on a real file, whatever comes in between."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from broker.model import ExceptionRow, NewMessage
from broker.store.port import Changes, Shard
from broker.store.sqlite import SqliteStore, retention
from support.eventually import eventually

T = TypeVar("T")
FOREVER = float("inf")
STATES = ("retry", "held", "leased", "blocked", "dead")


def message(size: int, id_: str = "", key: str | None = None) -> NewMessage:
    """Make one of `size` bytes; one with an id is looked up in the window."""
    return NewMessage(id_, "/s", key, b"{}", b"x" * (size - 2), id_.encode() or None)


@dataclass
class Expected:
    """What a subscription should have: how far it has read, and its rows by seq."""

    shard: Shard
    fetched: int
    rows: dict[int, str] = field(default_factory=dict)

    def first_owed(self, first: int) -> int:
        """The first message of the log that it is owed."""
        owed = [seq for seq, state in self.rows.items() if state != "dead" and seq >= first]
        return min([self.fetched + 1, *owed])


class LogMachine(RuleBasedStateMachine):
    """One topic and its subscriptions, beside a plain model of them."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lives, self.serial = count(1), count(1)
        self.path = self.folder / "0" / "broker.db"
        self.loop = asyncio.new_event_loop()
        self.sizes: dict[int, int] = {}
        self.first, self.last = 1, 0
        self.subscriptions: dict[str, Expected] = {}
        self.idle_s, retention.IDLE_S = retention.IDLE_S, 0.005
        self.open()

    def open(self) -> None:
        self.store = SqliteStore(str(self.path))
        self.run(self.store.open())

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    def claim(self) -> Shard:
        return self.run(anext(self.store.claim()))

    def commit(self, shard: Shard, changes: Changes) -> None:
        async def durably() -> None:
            await shard.commit(changes, soon=True)

        self.run(durably())

    # -- what happens

    @initialize()
    def create(self) -> None:
        self.run(self.store.create_topic("t", {}))

    @rule(
        sizes=st.lists(st.integers(2, 50) | st.sampled_from([900, 2_500]), min_size=1, max_size=4)
    )
    def publish(self, sizes: list[int]) -> None:
        for each in self.run(self.store.append("t", [message(size) for size in sizes])):
            assert each.sequence == self.last + 1
            self.last += 1
            self.sizes[self.last] = sizes.pop(0)

    @rule(target=names, start=st.integers(1, 12))
    def subscribe(self, start: int) -> str:
        name = f"s{next(self.serial)}"
        start = min(start, self.last + 1)
        self.run(self.store.create_subscription("t", name, {}, start))
        self.subscriptions[name] = Expected(self.claim(), max(start, self.first) - 1)
        return name

    @rule(name=consumes(names), topic_is_told=st.booleans())
    def unsubscribe(self, name: str, topic_is_told: bool) -> None:
        del self.subscriptions[name]
        self.run(self.store.drop_subscription("t", name))
        if topic_is_told:
            self.run(self.store.trim("t", self.first))

    @rule(name=names, states=st.lists(st.sampled_from(["done", "dead", "retry", "held"])))
    def deliver(self, name: str, states: list[str]) -> None:
        expected = self.subscriptions[name]
        shard = expected.shard
        for state in states:
            page = self.run(shard.fetch(1))
            assert [each.seq for each in page] == (
                [expected.fetched + 1] if expected.fetched < self.last else []
            )
            for each in page:
                expected.fetched = each.seq
                if state == "done":
                    self.commit(shard, Changes(done=[each.seq]))
                else:
                    expected.rows[each.seq] = state
                    row = ExceptionRow(each.seq, None, state, since=1.0)  # type: ignore[arg-type]
                    self.commit(shard, Changes(put=[row]))

    @rule(name=names, choice=st.randoms())
    def settle_a_row(self, name: str, choice: Any) -> None:
        expected = self.subscriptions[name]
        if expected.rows:
            seq = choice.choice(sorted(expected.rows))
            del expected.rows[seq]
            self.commit(expected.shard, Changes(drop=[seq]))

    @rule(name=names)
    def replay(self, name: str) -> None:
        expected = self.subscriptions[name]
        dead = [seq for seq, state in expected.rows.items() if state == "dead"]
        assert self.run(expected.shard.replay(None, None, 2.0)) == len(dead)
        expected.rows |= dict.fromkeys(dead, "retry")

    @rule(name=names, position=st.integers(0, 12))
    def seek(self, name: str, position: int) -> None:
        expected = self.subscriptions[name]
        position = min(position, self.last)
        self.run(expected.shard.seek(position))
        expected.fetched = max(position, self.first - 1)
        expected.rows = {
            seq: state
            for seq, state in expected.rows.items()
            if state == "dead" and seq <= expected.fetched
        }

    @rule(name=names, before=st.integers(1, 12))
    def give_up(self, name: str, before: int) -> None:
        expected = self.subscriptions[name]
        before = min(before, self.last + 1)
        rows = [
            seq
            for seq, state in expected.rows.items()
            if seq < before and state in ("retry", "held")
        ]
        new = range(expected.fetched + 1, before)
        given, _ = self.run(
            expected.shard.give_up(before, FOREVER, frozenset(), "too_old", 1000, 3.0)
        )
        assert given == len(rows) + len(new)
        expected.rows |= dict.fromkeys([*rows, *new], "dead")
        expected.fetched = max(expected.fetched, before - 1)

    @rule(name=names)
    def drop_dead(self, name: str) -> None:
        expected = self.subscriptions[name]
        gone = [
            seq
            for seq, state in expected.rows.items()
            if state == "dead" and seq <= expected.fetched
        ]
        assert self.run(self.store.drop_dead("t", name, FOREVER)) == len(gone)
        for seq in gone:
            del expected.rows[seq]

    @rule(before=st.integers(1, 20))
    def trim(self, before: int) -> None:
        bounds = [each.first_owed(self.first) for each in self.subscriptions.values()]
        self.first = max(self.first, min([before, self.last + 1, *bounds]))
        assert self.run(self.store.trim("t", before)) == self.first

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files, as though killed now."""
        before = self.path
        self.path = self.folder / str(next(self.lives)) / "broker.db"
        self.path.parent.mkdir()
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{before}{suffix}", f"{self.path}{suffix}")
        self.run(self.store.close())
        self.open()
        for _ in self.subscriptions:
            shard = self.claim()
            self.subscriptions[shard.subscription].shard = shard

    # -- what always holds

    @invariant()
    def counts_are_right(self) -> None:
        if "topic/t" in self.store.documents(""):
            stats = self.store.topic_stats("t")
            log = range(self.first, self.last + 1)
            assert stats.first_sequence == self.first
            assert stats.last_sequence == self.last
            assert stats.message_count == len(log)
            assert stats.bytes == sum(self.sizes[seq] for seq in log)

    @precondition(lambda self: self.last)
    @invariant()
    def log_is_whole_and_rows_are_readable(self) -> None:
        read, _ = self.run(self.store.read("t", 0, 1000))
        assert [each.seq for each in read] == list(range(self.first, self.last + 1))
        for name, expected in self.subscriptions.items():
            rows = self.run(self.store.rows("t", name, STATES, 0, 1000))  # type: ignore[arg-type]
            assert {due.row.seq: due.row.state for due in rows} == expected.rows
            for due in rows:
                assert (
                    len(due.message.attributes + (due.message.data or b""))
                    == (self.sizes[due.row.seq])
                )

    def teardown(self) -> None:
        """Nothing may be left that nobody needs."""
        try:
            kept = {seq for each in self.subscriptions.values() for seq in each.rows}
            kept.update(range(self.first, self.last + 1))
            rows = sum(len(each.rows) for each in self.subscriptions.values())
            eventually(lambda: self.left(kept) == (kept, rows))
        finally:
            retention.IDLE_S = self.idle_s
            self.run(self.store.close())
            self.loop.close()
            shutil.rmtree(self.folder)

    def left(self, kept: set[int]) -> tuple[set[int], int]:
        self.run(asyncio.sleep(0.005))
        connection = sqlite3.connect(self.path)
        try:
            messages: set[int] = set()
            blocks = connection.execute("SELECT seq, parts FROM block").fetchall()
            assert len({seq for seq, _ in blocks}) == len(blocks)
            for seq, parts in blocks:
                if parts is None:
                    messages.add(seq)
                else:  # what is before the log's first goes with the rest of its row
                    end = seq + len(json.loads(parts))
                    assert end > self.first
                    inside = range(seq, end)
                    messages.update(each for each in inside if each >= self.first or each in kept)
            ((rows,),) = connection.execute("SELECT count(*) FROM exception")
            return messages, rows
        finally:
            connection.close()


LogMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_log_machine = pytest.mark.timeout(300)(LogMachine.TestCase)
