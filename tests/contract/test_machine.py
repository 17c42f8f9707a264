"""A store against a model, in any order of calls, ends and crashes.

The model knows what the contract promises: every message that is owed has a row or comes again,
nothing settled below the position does, a seq never names two messages, an id never two within its
window, and what was durable before a crash is there after it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec.structs import replace as with_fields

from broker.model import ExceptionRow, RowState
from broker.store.port import Changes, IdTaken, LeaseLost, Shard, Store
from contract.homes import Home, JetStreamHome, SqliteHome
from contract.messages import SUBSCRIPTION, TOPIC, new_message, own, read_all, seqs_of
from support.nats_server import NatsServer

T = TypeVar("T")
WINDOW_S = 60.0
EVER = 1e12
NONE = frozenset[int]()
KEYS = ("a", "b", None)

new_messages = st.lists(
    st.tuples(st.sampled_from(["", "", "", "x", "y"]), st.sampled_from(KEYS), st.booleans()),
    min_size=1,
    max_size=4,
)
states: st.SearchStrategy[RowState] = st.sampled_from(["retry", "held", "leased", "dead"])
places = st.integers(0, 7)


@dataclass
class Stored:
    """A message as the model knows it."""

    data: bytes
    key: str | None
    stored_at: float


@dataclass
class Progress:
    """What a subscription would be found with if its process were killed now."""

    position: int
    settled: set[int] = field(default_factory=set)
    rows: dict[int, ExceptionRow] = field(default_factory=dict)


class StoreMachine(RuleBasedStateMachine):
    """One topic with one subscription, over several lives of the store."""

    def make_home(self, folder: Path) -> Home:
        """Return an empty place for a store."""
        raise NotImplementedError

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end what the store is asked."""
        return self.runner.run(coroutine)

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.home = self.make_home(Path(self.folder.name))
        self.store: Store = self.run(self.home.open())
        self.documents: dict[str, tuple[dict[str, Any], int]] = {}
        self.create_topic()
        self.create_subscription(start=1)
        self.append([("", key, False) for key in KEYS * 2])
        self.fetch(4)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.home.close())
            self.runner.close()
            self.folder.cleanup()

    def create_topic(self) -> None:
        document = {"dedup_window_s": WINDOW_S}
        self.run(self.store.create_topic(TOPIC, document))
        self.documents[f"topic/{TOPIC}"] = (document, 1)
        self.log: dict[int, Stored] = {}
        self.ids: dict[str, int] = {}

    def create_subscription(self, start: int) -> None:
        document = {"start": start}
        self.run(self.store.create_subscription(TOPIC, SUBSCRIPTION, document, start))
        self.documents[f"subscription/{TOPIC}/{SUBSCRIPTION}"] = (document, 1)
        self.now_known = Progress(start - 1)
        self.claim()

    def claim(self) -> None:
        """Begin a life with what is durable."""
        self.shard: Shard = self.run(own(self.store))
        known = self.now_known = _after_end(self.now_known)
        self.fetched = known.position
        self.outstanding: list[int] = []
        self.covered = {seq for seq in known.rows if seq > known.position}
        self.possible = [deepcopy(known)]  # what a crash may leave; the first is durable

    # -- publishing -------------------------------------------------------------------------------

    @rule(drawn=new_messages)
    def append(self, drawn: list[tuple[str, str | None, bool]]) -> None:
        messages = [
            new_message(id_, key=key, data=b"%d" % other if id_ else b"-")
            for id_, key, other in drawn
        ]
        now = self.home.clock.now
        ids = {i: s for i, s in self.ids.items() if self.log[s].stored_at > now - WINDOW_S}
        data_of = {id_: self.log[seq].data for id_, seq in ids.items()}
        clash = False
        for message in messages:
            if message.fingerprint is not None:
                known = data_of.setdefault(message.id, message.data or b"")
                clash = clash or known != message.data
        if clash:
            with pytest.raises(IdTaken):
                self.run(self.store.append(TOPIC, messages))
            return
        appended = self.run(self.store.append(TOPIC, messages))

        last = max(self.log, default=0)
        for message, placed in zip(messages, appended, strict=True):
            assert placed.sequence is not None
            seq = placed.sequence
            if message.fingerprint is not None and message.id in ids:
                assert (seq, placed.duplicate) == (ids[message.id], True)
                continue
            assert not placed.duplicate
            assert seq > last, "a seq went back"
            last = seq
            self.log[seq] = Stored(message.data or b"", message.key, now)
            if message.fingerprint is not None:
                ids[message.id] = self.ids[message.id] = seq

    @rule(seconds=st.sampled_from([1.0, 10.0, 59.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.home.clock.now += seconds

    # -- delivering -------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 5))
    def fetch(self, limit: int) -> None:
        messages = self.run(self.shard.fetch(limit))
        expected: list[int] = []
        above = [seq for seq in sorted(self.log) if seq > self.fetched]
        while above and not expected:
            page, above = above[:limit], above[limit:]
            self.fetched = page[-1]
            expected = [seq for seq in page if seq not in self.covered]
            self.covered.difference_update(page)
        assert seqs_of(messages) == expected
        for message in messages:
            stored = self.log[message.seq]
            assert (message.data, message.key) == (stored.data, stored.key)
            assert message.seq not in self.now_known.settled
        self.outstanding += expected
        self.commit(Changes(), soon=False)

    def commit(self, changes: Changes, soon: bool) -> None:
        known = self.now_known
        self.run(_commit(self.shard, changes, soon))
        for row in changes.put:
            known.rows[row.seq] = row
            self.settle_outstanding(row.seq)
        for seq in changes.done:
            self.settle_outstanding(seq)
            if seq not in known.rows:
                known.settled.add(seq)
        for seq in changes.drop:
            known.rows.pop(seq, None)
            known.settled.add(seq)
        known.position = self.outstanding[0] - 1 if self.outstanding else self.fetched
        self.possible = [] if soon else self.possible
        self.possible.append(deepcopy(known))

    def settle_outstanding(self, seq: int) -> None:
        if seq in self.outstanding:
            self.outstanding.remove(seq)
            self.covered.discard(seq)

    @precondition(lambda self: self.outstanding)
    @rule(
        at=st.sets(places, min_size=1, max_size=4),
        state=st.one_of(st.none(), states),
        soon=st.booleans(),
    )
    def settle_new(self, at: set[int], state: RowState | None, soon: bool) -> None:
        """Some of what was handed out is done, or gets a row."""
        chosen = [seq for place, seq in enumerate(self.outstanding) if place in at]
        if state is None:
            self.commit(Changes(done=chosen), soon)
        else:
            self.commit(Changes(put=[self.row(seq, state) for seq in chosen]), soon)

    def row(self, seq: int, state: RowState, attempts: int = 1) -> ExceptionRow:
        due_at = self.home.clock.now + 10 * (seq % 3) if state != "leased" else inf
        key = self.log[seq].key
        if state == "held" and key is None:
            state = "retry"  # it would wait behind nothing
        return ExceptionRow(seq, key, state, attempts, due_at, f"reason {seq}")

    @precondition(lambda self: self.now_known.rows)
    @rule(at=places, state=st.one_of(st.none(), states), soon=st.booleans())
    def settle_row(self, at: int, state: RowState | None, soon: bool) -> None:
        """A delivery that has a row is done, or fails again."""
        rows = sorted(self.now_known.rows)
        row = self.now_known.rows[rows[at % len(rows)]]
        if state is None:
            self.commit(Changes(drop=[row.seq]), soon)
        else:
            self.commit(Changes(put=[self.row(row.seq, state, row.attempts + 1)]), soon)

    @precondition(lambda self: len(self.outstanding) > 1)
    @rule(twice=st.booleans())
    def settle_all_ways(self, twice: bool) -> None:
        """One commit with all there is; the same again is harmless."""
        first, *rest = self.outstanding
        drop = [seq for seq in self.now_known.rows if seq not in self.outstanding][:1]
        changes = Changes(put=[self.row(first, "retry")], done=rest[:1], drop=drop)
        self.commit(changes, soon=not twice)
        if twice:
            self.commit(changes, soon=True)

    @rule()
    def regroup(self) -> None:
        self.run(self.shard.regroup("key"))
        rows = sorted(self.now_known.rows.items())
        leased = {row.key for _, row in rows if row.state == "leased"}
        waiting: set[str] = set()
        for seq, row in rows:
            if row.state == "held" and row.key not in waiting | leased:
                self.now_known.rows[seq] = with_fields(row, state="retry")
            elif row.state == "retry" and row.key in waiting:
                self.now_known.rows[seq] = with_fields(row, state="held")
            if row.key is not None and row.state != "dead":
                waiting.add(row.key)
        self.possible = [deepcopy(self.now_known)]

    # -- topics and subscriptions -----------------------------------------------------------------

    @precondition(lambda self: len(self.log) > 8)
    @rule(back=st.integers(0, 3), topic=st.booleans())
    def create_anew(self, back: int, topic: bool) -> None:
        """The subscription, or the topic with it."""
        lost = self.shard
        if topic:
            self.run(self.store.drop_topic(TOPIC))
            self.create_topic()
        else:
            self.run(self.store.drop_subscription(TOPIC, SUBSCRIPTION))
        with pytest.raises(LeaseLost):
            self.run(lost.fetch(1))
        self.create_subscription(start=max(max(self.log, default=0) + 1 - back, 1))
        assert (self.shard.topic_id == lost.topic_id) == (not topic)

    @rule(name=st.sampled_from(["a", "b"]), value=st.integers(0, 3))
    def put_document(self, name: str, value: int) -> None:
        key = f"note/{name}"
        _, revision = self.documents.get(key, ({}, 0))
        assert self.run(self.store.put_document(key, {"value": value}, revision)) == revision + 1
        self.documents[key] = ({"value": value}, revision + 1)

    # -- ends -------------------------------------------------------------------------------------

    @precondition(lambda self: self.now_known.rows or len(self.possible) > 2)
    @rule(clean=st.booleans())
    def end(self, clean: bool) -> None:
        """Another life begins, after a clean end or a crash."""
        if clean:
            self.store = self.run(self.home.reopen())
        else:
            self.crash()
        self.claim()
        self.look()

    def crash(self) -> None:
        """Kill the store; go on with the one of the states it may have left that it has left."""
        self.store = self.run(self.home.crash())
        shard = self.run(own(self.store))
        found = (self.stats().position, dict(self.stats().rows), self.visible(shard))
        fitting = [
            known
            for known in map(_after_end, self.possible)
            if (known.position, _counts(known.rows), _visible(known.rows)) == found
        ]
        assert fitting, f"{found} is none of {self.possible}"
        self.now_known = fitting[-1]
        self.store = self.run(self.home.reopen())

    # -- what is always so -----------------------------------------------------------------------

    def stats(self) -> Any:
        return self.run(self.store.shard_stats(TOPIC, SUBSCRIPTION))

    def visible(self, shard: Shard) -> list[ExceptionRow]:
        """Return every row that the store shows, in the order of seqs."""
        due = [*self.run(shard.due(EVER, 1000, NONE))]
        rows = [self.run(shard.row(seq)) for seq in self.log]
        due += [each for each in rows if each is not None and each.row.state == "held"]
        assert all(each.row.seq == each.message.seq for each in due)
        return sorted((each.row for each in due), key=lambda row: row.seq)

    @rule()
    def look(self) -> None:
        """Everything that can be seen is as the model has it."""
        known, now = self.now_known, self.home.clock.now
        rows = known.rows
        assert self.visible(self.shard) == _visible(rows)
        due = [(d.row.due_at, d.row.seq) for d in self.run(self.shard.due(now, 1000, NONE))]
        assert [at for at, _ in due] == sorted(at for at, _ in due)
        assert {seq for _, seq in due} == {
            seq for seq, row in rows.items() if row.state == "retry" and row.due_at <= now
        }
        retrying = [row.due_at for row in rows.values() if row.state == "retry"]
        assert self.run(self.shard.next_due_at(NONE)) == min(retrying, default=None)
        assert set(self.run(self.shard.waiting_keys(99))) == {
            row.key for row in rows.values() if row.state != "dead" and row.key is not None
        }

        owed = [
            seq
            for seq in sorted(self.log)
            if (rows[seq].state != "dead" if seq in rows else seq not in known.settled)
            and (seq in rows or seq > self.start)
        ]
        stats = self.stats()
        assert stats.position == known.position
        assert dict(stats.rows) == _counts(rows)
        assert stats.backlog == len(owed), f"owed are {owed}"
        assert (stats.oldest_unsettled_at is None) == (not owed)
        if owed and not self.covered:
            assert stats.oldest_unsettled_at == self.log[owed[0]].stored_at

        # What is owed has a row, is handed out or is still to come.
        for seq in owed:
            assert seq in rows or seq in self.outstanding or seq > self.fetched

    @property
    def start(self) -> int:
        """The seq before the first that the subscription gets."""
        document, _ = self.documents[f"subscription/{TOPIC}/{SUBSCRIPTION}"]
        return int(document["start"]) - 1

    @rule()
    def read(self) -> None:
        found = {m.seq: Stored(m.data or b"", m.key, m.stored_at) for m in self.all_messages()}
        assert found == self.log
        stats = self.store.topic_stats(TOPIC)
        assert stats.message_count == len(self.log)
        assert stats.last_sequence == max(self.log, default=0)

    def all_messages(self) -> Any:
        return self.run(read_all(self.store))

    @invariant()
    def documents_are_kept(self) -> None:
        if hasattr(self, "documents"):
            assert self.store.documents("") == self.documents


async def _commit(shard: Shard, changes: Changes, soon: bool) -> None:
    await shard.commit(changes, soon=soon)


def _counts(rows: dict[int, ExceptionRow]) -> dict[str, int]:
    return dict(Counter(row.state for row in rows.values()))


def _visible(rows: dict[int, ExceptionRow]) -> list[ExceptionRow]:
    return [row for _, row in sorted(rows.items()) if row.state in {"retry", "held"}]


def _after_end(known: Progress) -> Progress:
    """Tell what the next life begins with: leases are over, what is above the position is owed."""
    return Progress(
        known.position,
        {seq for seq in known.settled if seq <= known.position},
        {
            seq: with_fields(row, state="retry", due_at=0.0) if row.state == "leased" else row
            for seq, row in known.rows.items()
        },
    )


class SqliteMachine(StoreMachine):
    """The default store."""

    def make_home(self, folder: Path) -> Home:
        return SqliteHome(folder)


TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(max_examples=settings().max_examples // 3, stateful_step_count=40)


class JetStreamMachine(StoreMachine):
    """The store that follows a journal on JetStream."""

    server = ""

    def make_home(self, folder: Path) -> Home:
        return JetStreamHome(folder, self.server)


@pytest.fixture(scope="module", autouse=True)
def served(nats: NatsServer) -> None:
    """Tell the machine, which takes no fixtures, where the server is."""
    JetStreamMachine.server = nats.address


TestJetStream = JetStreamMachine.TestCase
TestJetStream.settings = settings(max_examples=settings().max_examples // 5, stateful_step_count=40)
