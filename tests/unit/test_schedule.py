"""Messages with a time of their own, in the SQLite store; the rest is in contract."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.store.port import IdTaken
from broker.store.sqlite import SqliteStore, schedule, store
from unit.sqlite_stores import (
    NOW,
    SOURCE,
    TOPIC,
    WINDOW_S,
    Stores,
    id_of,
    ids_in_log,
    ids_waiting,
    message,
    outcomes,
)

pytestmark = pytest.mark.anyio
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LONGEST_WAIT_S", 0.002)


async def joined(store: SqliteStore) -> list[str]:
    """Wait until nothing that is due waits any more; give the log."""
    due_until = (store._now(), 2**60)
    while True:
        waiting, _ = await store.scheduled(TOPIC, (0.0, 0), 1)
        if not waiting or waiting[0].turn > due_until:
            return await ids_in_log(store)
        await asyncio.sleep(0)


async def test_pages_follow_one_another(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SCAN_ROWS", 7)
    await stores.store.create_topic("other", {})
    for n in range(30):
        await stores.store.append(TOPIC, [message(f"{n:02}", NOW + 100 - n // 3)])
        await stores.store.append("other", [message(f"{n:02}", NOW + 100 - n // 3)] * 2)
    seen: list[str] = []
    after: tuple[float, int] | None = (0.0, 0)
    while after is not None:
        page, after = await stores.store.scheduled(TOPIC, after, 4)
        seen += [id_of(each.attributes) for each in page]
    assert seen == sorted(seen, key=lambda id_: (-(int(id_) // 3), id_))
    assert len(seen) == 30


async def test_message_is_cancelled_or_joins(stores: Stores) -> None:
    ids = [f"{n:03}" for n in range(300)]
    await stores.store.append(TOPIC, [message(id_, NOW + 1) for id_ in ids])
    stores.clock.now = NOW + 1
    answers = await asyncio.gather(
        *(stores.store.cancel_scheduled(TOPIC, SOURCE, id_) for id_ in ids)
    )
    cancelled = {id_ for id_, answer in zip(ids, answers, strict=True) if answer}
    assert await joined(stores.store) == [id_ for id_ in ids if id_ not in cancelled]


async def test_cancelled_by_somebody_who_does_not_wait(stores: Stores) -> None:
    await stores.store.append(TOPIC, [message("a", NOW + 1)])
    cancelling = asyncio.create_task(stores.store.cancel_scheduled(TOPIC, SOURCE, "a"))
    await asyncio.sleep(0)
    cancelling.cancel()
    stores.clock.now = NOW + 1
    await stores.store.append(TOPIC, [message("b", NOW + 2)])
    assert await joined(stores.store) == []
    assert await ids_waiting(stores.store) == ["b"]


async def test_what_a_dropped_topic_had_waiting_goes_nowhere(stores: Stores) -> None:
    await stores.store.append(TOPIC, [message(f"{n}", NOW + 1) for n in range(10)])
    dropped = stores.store._topics[TOPIC].id
    dropping = asyncio.create_task(stores.store.drop_topic(TOPIC))
    await asyncio.sleep(0)
    stores.clock.now = NOW + 1
    await dropping
    await stores.store.create_topic(TOPIC, {})
    await stores.store.append(TOPIC, [message("last", NOW + 2)])
    stores.clock.now = NOW + 2
    assert await joined(stores.store) == ["last"]

    def left(table: str) -> int:
        query = f"SELECT count(*) FROM {table} WHERE topic = ?"
        return int(stores.store._reader.execute(query, (dropped,)).fetchone()[0])

    assert [left("scheduled"), left("block")] == [0, 0]


async def test_what_is_being_stored_is_found(stores: Stores) -> None:
    storing = asyncio.create_task(stores.store.append(TOPIC, [message("a", NOW + 1)]))
    await asyncio.sleep(0)
    assert await stores.store.find_scheduled(TOPIC, SOURCE, "a") is not None
    assert await ids_waiting(stores.store) == ["a"]
    assert outcomes(await storing) == [(None, False)]


async def test_identity_is_known_while_it_waits_however_late_it_is(stores: Stores) -> None:
    late = message("a", NOW + 1)
    await stores.store.append(TOPIC, [late])
    await stores.store.close()
    stores.clock.now = NOW + 10 * WINDOW_S
    await stores.open()
    assert outcomes(await stores.store.append(TOPIC, [late]))[0][1]
    assert await joined(stores.store) == ["a"]
    assert outcomes(await stores.store.append(TOPIC, [late])) == [(1, True)]


async def test_delayed_message_without_a_fingerprint_changes_nothing(stores: Stores) -> None:
    nameless = message("a", NOW + 1)
    nameless = type(nameless)("a", SOURCE, None, b"{}", None, None, NOW + 1)
    with pytest.raises(ValueError, match="fingerprint"):
        await stores.store.append(TOPIC, [message("b"), nameless])
    assert outcomes(await stores.store.append(TOPIC, [message("b")])) == [(1, False)]


async def test_kill_at_any_moment_leaves_each_message_once(stores: Stores) -> None:
    ids = [f"{n:03}" for n in range(3 * schedule.BATCH_ROWS)]
    await stores.store.append(TOPIC, [message(id_, NOW + 1) for id_ in ids])
    stores.clock.now = NOW + 1
    copies: list[Stores] = []
    commits = -1
    while await ids_waiting(stores.store):
        if stores.store._group.commits != commits:
            commits = stores.store._group.commits
            copies.append(stores.copy())
    assert len(copies) >= 3
    for copied in copies:
        store = await copied.open()
        assert await joined(store) == ids
        assert store.topic_stats(TOPIC).message_count == len(ids)
        repeats = await store.append(TOPIC, [message(id_, NOW + 1) for id_ in ids])
        assert outcomes(repeats) == [(n + 1, True) for n in range(len(ids))]
        await store.close()


async def test_schedule_that_fails_ends_the_worker(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("for a test")

    monkeypatch.setattr(stores.store._schedule, "_due", fail)
    await stores.store.append(TOPIC, [message("a", NOW + 1)])
    while not stores.failures:  # noqa: ASYNC110 the store calls back without one
        await asyncio.sleep(0)
    assert stores.failures == ["the task schedule failed"]


# -- every order of events -------------------------------------------------------------------------


@dataclass
class Known:
    """What the model knows of an identity. `joined_at` is None while it waits.

    An `outlived` one has been past a window, and may be remembered or not if that is made longer.
    """

    deliver_at: float | None
    data: bytes
    joined_at: float | None
    seq: int | None
    outlived: bool = False


class Model(RuleBasedStateMachine):
    """A store, and beside it lists and dictionaries that do the same without one."""

    items = st.tuples(
        st.sampled_from("abcdef"), st.sampled_from([None, -5, 10, 10, 20, 45]), st.just(b"1")
    ) | st.tuples(st.sampled_from("abc"), st.none(), st.just(b"2"))

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.stores = Stores(self.folder)
        self.log: list[str] = []
        self.waiting: list[tuple[float, int, str]] = []
        self.known: dict[str, Known] = {}
        self.count = 0
        self.window_s = WINDOW_S
        schedule.LONGEST_WAIT_S = 0.002
        self.run(self.stores.open())
        self.run(self.stores.store.create_topic(TOPIC, {"dedup_window_s": WINDOW_S}))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @property
    def now(self) -> float:
        return self.stores.clock.now

    def past_window(self, known: Known) -> bool:
        return known.joined_at is not None and known.joined_at <= self.now - self.window_s

    def note_outlived(self) -> None:
        for known in self.known.values():
            known.outlived |= self.past_window(known)

    @rule(batch=st.lists(items, min_size=1, max_size=4))
    def append(self, batch: list[tuple[str, int | None, bytes]]) -> None:
        messages = [
            message(id_, None if delay is None else NOW + delay, data) for id_, delay, data in batch
        ]
        known = dict(self.known)
        log, waiting = list(self.log), list(self.waiting)
        expected: list[tuple[int | None, bool]] | None = []
        for new in messages:
            first = known.get(new.id)
            if first is not None and self.past_window(first):
                first = None
            if first is not None:
                assume(not first.outlived)
                if (first.deliver_at, first.data) != (new.deliver_at, new.data):
                    expected = None
                    break
                expected.append((first.seq, True))
                continue
            assert new.data is not None
            if new.deliver_at is not None and new.deliver_at > self.now:
                self.count += 1
                waiting.append((new.deliver_at, self.count, new.id))
                known[new.id] = Known(new.deliver_at, new.data, None, None)
            else:
                log.append(new.id)
                known[new.id] = Known(new.deliver_at, new.data, self.now, len(log))
            expected.append((known[new.id].seq, False))

        if expected is None:
            with pytest.raises(IdTaken):
                self.run(self.stores.store.append(TOPIC, messages))
        else:
            assert outcomes(self.run(self.stores.store.append(TOPIC, messages))) == expected
            self.known, self.log, self.waiting = known, log, sorted(waiting)

    @rule(id_=st.sampled_from("abcdef"))
    def cancel(self, id_: str) -> None:
        there = [each for each in self.waiting if each[2] == id_]
        assert self.run(self.stores.store.cancel_scheduled(TOPIC, SOURCE, id_)) == bool(there)
        for each in there:
            self.waiting.remove(each)
            del self.known[id_]

    @rule(seconds=st.sampled_from([1, 9, 10, 30, 60]))
    def pass_time(self, seconds: int) -> None:
        self.stores.clock.now += seconds
        self.run(joined(self.stores.store))
        for each in [each for each in self.waiting if each[0] <= self.now]:
            self.waiting.remove(each)
            self.log.append(each[2])
            self.known[each[2]].joined_at = self.now
            self.known[each[2]].seq = len(self.log)
        self.note_outlived()

    @rule(window_s=st.sampled_from([5.0, WINDOW_S, 500.0]))
    def change_window(self, window_s: float) -> None:
        document = {"dedup_window_s": window_s}
        self.run(self.stores.store.put_document(f"topic/{TOPIC}", document, None))
        self.window_s = window_s
        self.note_outlived()

    @rule()
    def reopen(self) -> None:
        self.run(self.stores.reopen())

    @rule()
    def crash(self) -> None:
        before, self.stores = self.stores, self.stores.copy()
        self.run(before.store.close())
        self.run(self.stores.open())

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "runner"):
            return
        store = self.stores.store
        assert self.run(joined(store)) == self.log
        assert self.run(ids_waiting(store)) == [id_ for _, _, id_ in self.waiting]
        stats = store.topic_stats(TOPIC)
        assert (stats.message_count, stats.scheduled_count) == (len(self.log), len(self.waiting))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.stores.store.close())
            self.runner.close()
            shutil.rmtree(self.folder)


TestEveryOrder = Model.TestCase
TestEveryOrder.settings = settings(max_examples=30, stateful_step_count=20)
