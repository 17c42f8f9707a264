"""Filters against anything in any order: each message is judged by the filters of its time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from broker.filters.dialects import Filter
from broker.subscription import Subscription
from contract.homes import SqliteHome
from unit.pump_world import NAME, SUBSCRIPTION, TOPIC, PumpWorld

TYPES = st.sampled_from("xyz")
KEYS = st.lists(st.sampled_from(["a", "a", "b", None]), min_size=1, max_size=6)
FILTERS = st.sampled_from(["", "x", "x", "y", "xy"])
CONFIGURATIONS = st.fixed_dictionaries(
    {},
    optional={
        "ordering": st.sampled_from(["key", "topic", "none"]),
        "format": st.sampled_from(["batch", "binary"]),
        "guarantee": st.sampled_from(["at-least-once", "at-least-once", "at-most-once"]),
        "paused": st.sampled_from([False, False, True]),
        "max_batch": st.integers(1, 3),
        "max_in_flight": st.integers(1, 3),
    },
)
DOCUMENT = f"subscription/{TOPIC}/{NAME}"
T = TypeVar("T")


def filters_of(letters: str) -> tuple[Filter, ...]:
    """Want messages of these types; of all for none."""
    if not letters:
        return ()
    return ({"any": [{"exact": {"type": letter}} for letter in letters]},)


class FilterMachine(RuleBasedStateMachine):
    """A model of what is wanted.

    `settled` is what was wanted up to `judged`, under filters of before; above, those of now count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        patch = self.closing.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("broker.store.sqlite.shard.WINDOW", 6)
        patch.setattr("broker.store.sqlite.shard.MOST_PASSED_AT_ONCE", 4)
        patch.setattr("broker.store.sqlite.shard.PAGES_PASSED_AT_ONCE", 2)
        patch.setattr("broker.dispatch.intake.PAGE", 2)
        folder = self.closing.enter_context(tempfile.TemporaryDirectory())
        self.runner = self.closing.enter_context(asyncio.Runner())
        self.home = SqliteHome(Path(folder))
        self.types: dict[int, str] = {}
        self.letters = ""
        self.judged = 0
        self.settled: set[int] = set()
        self.delivered: set[int] = set()
        self.lossy = False
        self.seen = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize(configuration=CONFIGURATIONS, letters=FILTERS)
    def start(self, configuration: dict[str, Any], letters: str) -> None:
        self.letters = letters
        self.lossy = configuration.get("guarantee") == "at-most-once"
        fields = {**configuration, "filters": filters_of(letters)}
        self.world = PumpWorld(self.home, replace(SUBSCRIPTION, **fields))
        self.run(self.world.start())
        self.look()

    # -- what happens --------------------------------------------------------------------------

    @rule(keys=KEYS, type_=TYPES)
    def publish(self, keys: list[str | None], type_: str) -> None:
        self.types |= dict.fromkeys(self.run(self.world.publish(*keys, type_=type_)), type_)
        self.look()

    @precondition(lambda self: self.world.courier.out)
    @rule(count=st.integers(1, 4), status=st.sampled_from([200, 200, 500]))
    def answer(self, count: int, status: int) -> None:
        for job, request in list(self.world.courier.out.items())[:count]:
            if status == 200:
                self.delivered.update(request.seqs)
            self.run(self.world.hear(job, status))
        self.look()

    @rule(seconds=st.sampled_from([0.25, 40.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.world.wait(seconds))
        self.look()

    @rule(configuration=CONFIGURATIONS)
    def configure(self, configuration: dict[str, Any]) -> None:
        configuration.pop("guarantee", None)
        self.run(self.world.configure(**configuration))
        self.look()

    @rule(letters=FILTERS)
    def refilter(self, letters: str) -> None:
        self.run(self.world.refilter(*filters_of(letters)))
        self.changed(letters)
        self.look()

    @rule(letters=FILTERS, turns=st.integers(0, 12))
    def refilter_and_crash(self, letters: str, turns: int) -> None:
        """Either the change was made or it was not."""
        self.run(self.begin_refilter(letters, turns))
        self.run(self.world.crash())
        self.seen = 0
        position, _ = self.world.durable()
        document, _ = self.world.store.documents(DOCUMENT)[DOCUMENT]
        stored = Subscription.from_document(document).filters
        assert stored in (filters_of(letters), filters_of(self.letters))
        if stored != filters_of(self.letters):
            assert position >= self.world.reached
            self.changed(letters)
        self.world.subscription = replace(self.world.subscription, filters=stored)
        self.run(self.world.crash())
        self.look()

    async def begin_refilter(self, letters: str, turns: int) -> None:
        changing = asyncio.ensure_future(self.world.refilter(*filters_of(letters)))
        await self.world.turn(turns)
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)

    @rule()
    def crash(self) -> None:
        self.run(self.world.crash())
        self.seen = 0
        position, _ = self.world.durable()
        assert position >= self.judged, "what was judged is judged anew"
        self.look()

    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(self.types)))
        for request in self.world.courier.out.values():
            self.delivered.difference_update(request.seqs)
        self.run(self.world.perform(lambda acts: acts.seek(position)))
        self.judged, self.settled = position, set()
        self.delivered = {seq for seq in self.delivered if seq <= position}
        self.look()

    # -- what must always hold -----------------------------------------------------------------

    def changed(self, letters: str) -> None:
        judged = range(self.judged + 1, self.world.reached + 1)
        self.settled |= {seq for seq in judged if self.wanted(seq)}
        self.judged, self.letters = max(self.judged, self.world.reached), letters

    def wanted(self, seq: int) -> bool:
        if seq <= self.judged:
            return seq in self.settled
        return not self.letters or self.types[seq] in self.letters

    def look(self) -> None:
        self.run(self.world.settle())
        sent = self.world.courier.sent
        for request in sent[self.seen :]:
            assert all(self.wanted(seq) for seq in request.seqs), request
        self.seen = len(sent)
        backlog = self.run(self.world.stats()).backlog
        everything = {seq for seq in self.types if self.wanted(seq)}
        unseen = len(self.types) - self.world.shard.fetched
        assert backlog <= len(everything) + max(unseen, 0)

    def teardown(self) -> None:
        """In the end all that was wanted has been delivered, and nothing is owed."""
        try:
            if hasattr(self, "world"):
                self.run(self.world.configure(paused=False))
                self.look()
                out = {seq for seqs in self.world.out() for seq in seqs}
                self.delivered |= out | set(self.run(self.world.drain()))
                self.look()
                if not self.lossy:
                    assert {seq for seq in self.types if self.wanted(seq)} <= self.delivered, "lost"
                self.run(self.world.stop())
        finally:
            self.closing.close()


TestFilters = FilterMachine.TestCase
TestFilters.settings = settings(
    settings.default,
    max_examples=settings().max_examples // 8,
    stateful_step_count=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)
