"""Ids that came in rising order are kept in runs: nobody can tell it from what is answered."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from broker.store.port import IdTaken
from broker.store.sqlite import id_run, recent_ids
from broker.store.sqlite.id_run import LONGEST, SHORTEST, IdRun, OpenRun
from support.eventually import eventually
from unit.sqlite_stores import SOURCE, TOPIC, WINDOW_S, Stores, message, outcomes

T = TypeVar("T")
OTHER = "/other"

pytestmark = pytest.mark.anyio


def rows(stores: Stores, table: str) -> list[Any]:
    """Read a table, whose rows are durable."""
    (file,) = stores.folder.glob("*/broker.db")
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


async def publish(stores: Stores, *ids: str, **fields: Any) -> list[tuple[int | None, bool]]:
    """Publish messages in one request; give their sequences and which are repeats."""
    messages = [message(id_, **fields) for id_ in ids]
    return outcomes(await stores.store.append(TOPIC, messages))


def numbered(first: int, count: int = SHORTEST) -> list[str]:
    """Make ids that rise."""
    return [f"{number:04}" for number in range(first, first + count)]


async def test_request_of_rising_ids_is_a_row_or_a_few(stores: Stores) -> None:
    await publish(stores, *numbered(10))
    await publish(stores, *numbered(30, LONGEST + 2), source=OTHER)

    next_ = 30 + LONGEST
    assert [(row[1:5], len(row[7])) for row in sorted(rows(stores, "id_run"))] == [
        ((OTHER, "0030", f"{next_ - 1:04}", SHORTEST + 1), LONGEST * len(b"1None")),
        ((OTHER, f"{next_:04}", f"{next_ + 1:04}", SHORTEST + LONGEST + 1), 2 * len(b"1None")),
        ((SOURCE, "0010", f"{9 + SHORTEST:04}", 1), SHORTEST * len(b"1None")),
    ]
    assert rows(stores, "publish_key") == []


@pytest.mark.parametrize(
    "ids",
    [
        numbered(10, SHORTEST - 1),
        [*numbered(10), "0000"],
        [*numbered(10), *numbered(10)],
        ["0010", *numbered(10)],
        numbered(0, 20),
    ],
    ids=["few", "falling", "all twice", "one twice", "not above the last"],
)
async def test_any_other_request_has_a_row_for_each_id(stores: Stores, ids: list[str]) -> None:
    await publish(stores, "0005")

    await publish(stores, *ids)

    assert rows(stores, "id_run") == []
    assert len(rows(stores, "publish_key")) == len({"0005", *ids})


async def test_ids_of_two_sources_are_no_run(stores: Stores) -> None:
    messages = [message(id_, source=SOURCE if id_ < "0014" else OTHER) for id_ in numbered(10)]

    await stores.store.append(TOPIC, messages)

    assert rows(stores, "id_run") == []


@pytest.mark.parametrize("life", ["same", "next"])
@pytest.mark.parametrize("place", [0, 3, SHORTEST - 1])
async def test_repeat_of_one_in_a_run_is_recognised(stores: Stores, life: str, place: int) -> None:
    await publish(stores, *numbered(10))
    await publish(stores, *numbered(50))
    if life == "next":
        await stores.reopen()

    assert await publish(stores, numbered(50)[place]) == [(SHORTEST + place + 1, True)]
    assert await publish(stores, numbered(10)[place]) == [(place + 1, True)]
    with pytest.raises(IdTaken):
        await publish(stores, numbered(10)[place], data=b"2")


async def test_repeat_is_recognised_before_the_first_is_on_disk(stores: Stores) -> None:
    told = await asyncio.gather(*(publish(stores, *numbered(10)) for _ in range(3)))

    places = [place for place, _ in told[0]]
    assert [[place for place, _ in each] for each in told] == [places] * 3
    assert sorted(repeated for each in told for _, repeated in each).count(False) == SHORTEST


async def test_repeat_is_recognised_of_a_source_that_is_out_of_mind(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_ids, "SOURCES_REMEMBERED", 1)
    requests = [SOURCE, OTHER, SOURCE, OTHER]

    told = await asyncio.gather(*(publish(stores, *numbered(10), source=it) for it in requests))

    assert told[2] == [(place, True) for place, _ in told[0]]
    assert told[3] == [(place, True) for place, _ in told[1]]


async def test_id_between_those_of_a_run_is_new(stores: Stores) -> None:
    await publish(stores, *numbered(10))
    await stores.reopen()

    assert await publish(stores, "0012-a") == [(SHORTEST + 1, False)]
    assert await publish(stores, "0012-a", "0012") == [(SHORTEST + 1, True), (3, True)]


async def test_id_of_a_run_may_come_again_after_the_window(stores: Stores) -> None:
    await publish(stores, *numbered(10))
    stores.clock.now += WINDOW_S

    anew = await publish(stores, "0012", data=b"other")

    assert anew == [(SHORTEST + 1, False)]
    assert await publish(stores, "0012", data=b"other") == [(SHORTEST + 1, True)]


async def test_runs_are_found_by_id_like_all_others(stores: Stores) -> None:
    await publish(stores, *numbered(10))
    await publish(stores, *numbered(10), source=OTHER)
    await publish(stores, "0010", source="/third")

    assert await stores.store.sequences_of(TOPIC, "0010") == [
        1,
        SHORTEST + 1,
        2 * SHORTEST + 1,
    ]
    assert await stores.store.sequences_of(TOPIC, "0012") == [3, SHORTEST + 3]
    assert await stores.store.sequences_of(TOPIC, "0012-a") == []
    assert await stores.store.sequences_of(TOPIC, "9999") == []


async def test_runs_are_removed_after_their_window(stores: Stores) -> None:
    await publish(stores, *numbered(10))
    stores.clock.now += WINDOW_S / 2
    await publish(stores, *numbered(50))
    stores.clock.now += WINDOW_S / 2

    await _until(lambda: [row[2] for row in rows(stores, "id_run")] == ["0050"])

    stores.clock.now += WINDOW_S / 2
    await _until(lambda: rows(stores, "id_run") == [])


async def test_runs_of_a_dropped_topic_are_removed(stores: Stores) -> None:
    for first in range(0, 500, 10):
        await publish(stores, *numbered(first))

    await stores.store.drop_topic(TOPIC)

    await _until(lambda: rows(stores, "id_run") == [] and rows(stores, "topic") == [])


async def _until(condition: Any) -> None:
    await asyncio.to_thread(eventually, condition)


# -- what it costs ---------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[IdRun]:
    """Tell of each run that is read to look for an id in it."""
    runs: list[IdRun] = []

    class Counted(OpenRun):
        def __init__(self, run: IdRun) -> None:
            runs.append(run)
            super().__init__(run)

    monkeypatch.setattr(recent_ids, "OpenRun", Counted)
    return runs


@pytest.mark.parametrize("life", ["same", "next"])
async def test_run_is_read_once_for_a_request_that_is_repeated(
    stores: Stores, opened: list[IdRun], life: str
) -> None:
    for first in range(0, 10_000, 1000):
        await publish(stores, *numbered(first, 1000))
    if life == "next":
        await stores.reopen()

    again = await publish(stores, *numbered(3000, 1000))

    assert again == [(place, True) for place in range(3001, 4001)]
    assert [run.first for run in opened] == [f"{n:04}" for n in range(3000, 4000, LONGEST)]


async def test_runs_on_their_way_to_the_disk_are_not_gone_through(
    stores: Stores, opened: list[IdRun]
) -> None:
    requests = [numbered(first) for first in range(0, 2000, 20)]

    await asyncio.gather(*(publish(stores, *ids) for ids in [*requests, requests[50]]))

    assert [run.first for run in opened] == ["1000"]


async def test_no_run_is_looked_for_where_a_source_has_none_as_high(
    stores: Stores, opened: list[IdRun]
) -> None:
    read: list[str] = []
    await publish(stores, *numbered(10))
    await publish(stores, "9000")
    stores.store._reader.set_trace_callback(read.append)

    await publish(stores, "8000", "0500", "0012")
    await publish(stores, "b", "a", source=OTHER)

    assert sum("fingerprints FROM id_run" in each for each in read) == 1
    assert [run.first for run in opened] == ["0010"]


async def test_long_ids_have_rows_of_their_own(stores: Stores) -> None:
    await publish(stores, *(f"{number:065}" for number in range(100)))
    await publish(stores, *(f"{number:064}" for number in range(100)), source=OTHER)

    assert len(rows(stores, "publish_key")) == 100
    assert len(rows(stores, "id_run")) == 1


# -- any requests, in any order --------------------------------------------------------------------

sources = st.sampled_from([SOURCE, OTHER])
rising = st.builds(numbered, st.integers(0, 40), st.integers(SHORTEST, 14))
mixed = st.lists(st.integers(0, 60).map("{:04}".format), min_size=1, max_size=12)
data = st.sampled_from([b"1", b"1", b"1", b"2"])


class RunMachine(RuleBasedStateMachine):
    """A topic to which ids come in runs and otherwise, against a dictionary."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end what the store is asked."""
        return self.runner.run(coroutine)

    @initialize(longest=st.sampled_from([3, LONGEST]))
    def open(self, longest: int) -> None:
        id_run.LONGEST = longest
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.stores = Stores(Path(self.folder.name))
        self.run(self.stores.open())
        self.run(self.stores.store.create_topic(TOPIC, {"dedup_window_s": WINDOW_S}))
        self.known: dict[tuple[str, str], tuple[int, bytes, float]] = {}
        self.last = 0

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.stores.store.close())
            self.runner.close()
            self.folder.cleanup()
            id_run.LONGEST = LONGEST

    @rule(source=sources, ids=rising | mixed, content=data)
    def publish(self, source: str, ids: Sequence[str], content: bytes) -> None:
        self.send([(source, id_, content) for id_ in ids])

    @rule(events=st.lists(st.tuples(sources, st.integers(0, 60).map("{:04}".format), data)))
    def publish_of_several_sources(self, events: list[tuple[str, str, bytes]]) -> None:
        self.send(events)

    def send(self, events: Sequence[tuple[str, str, bytes]]) -> None:
        now = self.stores.clock.now
        known = {each: it for each, it in self.known.items() if it[2] > now - WINDOW_S}
        expected, clash, last = [], False, self.last
        for source, id_, content in events:
            repeated = (source, id_) in known
            if not repeated:
                last += 1
                known[source, id_] = (last, content, now)
            seq, first, _ = known[source, id_]
            clash |= first != content
            expected.append((seq, repeated))
        messages = [message(id_, data=content, source=source) for source, id_, content in events]
        if clash:
            with pytest.raises(IdTaken):
                self.run(self.stores.store.append(TOPIC, messages))
            return
        assert outcomes(self.run(self.stores.store.append(TOPIC, messages))) == expected
        self.known, self.last = {**self.known, **known}, last

    @rule(seconds=st.sampled_from([1.0, WINDOW_S / 2, WINDOW_S]))
    def wait(self, seconds: float) -> None:
        self.stores.clock.now += seconds

    @rule()
    def reopen(self) -> None:
        self.run(self.stores.reopen())

    @rule()
    def be_killed(self) -> None:
        copy = self.stores.copy()
        self.run(self.stores.store.close())
        self.stores = copy
        self.run(self.stores.open())

    @rule(number=st.integers(0, 60))
    def find(self, number: int) -> None:
        found = self.run(self.stores.store.sequences_of(TOPIC, f"{number:04}"))
        known = [it for (_, id_), it in self.known.items() if id_ == f"{number:04}"]
        remembered = {it[0] for it in known if it[2] > self.stores.clock.now - WINDOW_S}
        # What has expired may be there yet, also the message that had the id before.
        assert remembered <= set(found)
        assert found == sorted(set(found))


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
