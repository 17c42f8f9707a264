"""Outcomes that come together: all is as though each had come alone."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.dispatch.circuit import FAILURES
from broker.dispatch.frames import Outcome
from contract.homes import SqliteHome
from unit.pump_world import SUBSCRIPTION, PumpWorld

pytestmark = pytest.mark.anyio

TAKEN = {"status": 200}
TAKEN_WITH_THANKS = {"status": 204, "body": b"thanks"}
SINGLED_OUT = {"status": 200, "body": b'{"retry": [0]}'}
ASKED_TO_RETRY = {"status": 200, "headers": {"webhook-verdict": "retry"}}
PROCESSED = {"status": 200, "headers": {"webhook-receipt": "processed"}}
REFUSED = {"status": 422}
OVERLOADED = {"status": 503, "headers": {"retry-after": "30"}}
NO_ANSWER = {"status": 0, "error": "the endpoint refused the connection"}
ENDS: list[dict[str, Any]] = [
    *(TAKEN, TAKEN_WITH_THANKS, SINGLED_OUT, ASKED_TO_RETRY, PROCESSED),
    *(REFUSED, OVERLOADED, NO_ANSWER),
]
# Mostly what is simply taken, and now and then as many failures as open the circuit.
ends = st.sampled_from([*ENDS[:2] * 3, *ENDS])
orders = st.lists(ends, min_size=1, max_size=12) | st.builds(
    lambda before, after: [*before, *[NO_ANSWER] * FAILURES, *after],
    st.lists(ends, max_size=3),
    st.lists(ends, max_size=3),
)
fields = st.fixed_dictionaries(
    {
        "ordering": st.sampled_from(["key", "none"]),
        "format": st.sampled_from(["structured", "batch"]),
        "guarantee": st.sampled_from(["at-least-once", "at-most-once", "exactly-once"]),
        "max_in_flight": st.just(50),
        "max_batch": st.sampled_from([1, 3]),
    }
)
keys = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12)


async def after(
    fields: dict[str, Any], keys: list[str | None], ends: list[dict[str, Any]], *, together: bool
) -> Any:
    """Say what there is once requests have ended."""
    with tempfile.TemporaryDirectory() as folder:
        world = PumpWorld(SqliteHome(Path(folder)), replace(SUBSCRIPTION, **fields))
        await world.start()
        try:
            await world.publish(*(f"of {place}" for place in range(len(ends))), *keys)
            await world.settle()
            outcomes = [
                Outcome(job, **end) for job, end in zip(list(world.courier.out), ends, strict=False)
            ]
            for outcome in outcomes:
                del world.courier.out[outcome.job]
            for some in [outcomes] if together else [[outcome] for outcome in outcomes]:
                world.pump.ended(some)
            await world.settle()
            tally = world.pump.tally
            stats = await world.stats()
            return (
                world.out(),
                stats,
                (tally.acked, tally.dead, tally.retried, tally.dropped),
                [each.counts for each in (tally.answered, tally.failed, tally.latency)],
                world.pump.circuit_closed(),
                world.pump.last_error,
                world.durable(),
            )
        finally:
            await world.stop()


@given(fields, keys, orders)
@settings(max_examples=60)
def test_outcomes_together_are_as_one_by_one(
    fields: dict[str, Any], keys: list[str | None], ends: list[dict[str, Any]]
) -> None:
    one_by_one = asyncio.run(after(fields, keys, ends, together=False))

    assert asyncio.run(after(fields, keys, ends, together=True)) == one_by_one


@pytest.mark.parametrize(
    ("changes", "end", "becomes"),
    [
        ({}, TAKEN, "acked"),
        ({}, TAKEN_WITH_THANKS, "acked"),
        ({}, SINGLED_OUT, "acked"),
        ({"format": "batch"}, TAKEN_WITH_THANKS, "acked"),
        ({"format": "batch"}, SINGLED_OUT, "retried"),
        ({}, ASKED_TO_RETRY, "retried"),
        ({}, PROCESSED, "acked"),
        ({"guarantee": "exactly-once"}, TAKEN, "retried"),
        ({"guarantee": "exactly-once"}, PROCESSED, "acked"),
        ({}, REFUSED, "dead"),
        ({}, OVERLOADED, "retried"),
        ({}, NO_ANSWER, "retried"),
        ({"guarantee": "at-most-once"}, TAKEN, "acked"),
        ({"guarantee": "at-most-once"}, ASKED_TO_RETRY, "acked"),
        ({"guarantee": "at-most-once"}, NO_ANSWER, "dropped"),
    ],
)
def test_outcome_decides_what_becomes_of_a_delivery(
    changes: dict[str, Any], end: dict[str, Any], becomes: str
) -> None:
    _, _, counts, *_ = asyncio.run(
        after({"max_batch": 1, **changes}, [], [TAKEN, end, end], together=True)
    )

    expected = dict.fromkeys(("acked", "dead", "retried", "dropped"), 0)
    expected["retried" if changes.get("guarantee") == "exactly-once" else "acked"] += 1
    expected[becomes] += 2
    assert counts == tuple(expected.values())


async def test_endpoint_that_is_back_is_told_of(
    world: PumpWorld, caplog: pytest.LogCaptureFixture
) -> None:
    await world.publish(*map(str, range(FAILURES)))
    await world.settle()
    for job in list(world.courier.out):
        world.end(job, 0)
    assert not world.pump.circuit_closed()
    await world.wait(10)
    caplog.set_level("INFO", "broker.deliveries")
    caplog.clear()

    world.end(*world.courier.out)

    assert world.pump.circuit_closed()
    assert [each.action for each in caplog.records] == ["circuit_closed"]  # type: ignore[attr-defined]
