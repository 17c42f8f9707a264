"""A process killed in a burst: what it had said is durable is there, and nothing comes twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from contract.homes import Home
from contract.messages import TOPIC, fetch_all, own, publish_keys, read_all

pytestmark = pytest.mark.anyio
SCRIPT = Path(__file__).with_name("burst_process.py")


def killed_after(environment: Mapping[str, str], lines: int) -> list[list[str]]:
    """Run the burst, kill it after so many lines, and return all it said."""
    with subprocess.Popen(
        [sys.executable, SCRIPT],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    assert all(said), "the process ended by itself"
    return [line.split() for line in said if line.endswith("\n")]


async def test_nothing_that_was_acknowledged_is_lost_by_a_kill(home: Home) -> None:
    stored: dict[int, bytes] = {}
    with_row: set[int] = set()
    settled: set[int] = set()
    for lines in (1, 150, 400, 37):
        for word, seq, *data in killed_after(home.environment, lines):
            if word == "stored":
                assert int(seq) not in stored, "a seq came twice"
                stored[int(seq)] = data[0].encode()
            elif word == "settled":
                settled.add(int(seq))
            else:
                with_row.add(int(seq))

        store = await home.open()
        kept = {message.seq: message.data for message in await read_all(store)}
        assert stored.items() <= kept.items()
        numbers = [data for data in kept.values() if data != b"{}"]
        assert len(numbers) == len(set(numbers)), "a message was stored twice"
        shard = await own(store)
        rows = {due.row.seq for due in await shard.due(1e12, 10**6, frozenset())}
        position = (await store.shard_stats(TOPIC, "mail")).position
        again = await fetch_all(shard)
        assert with_row <= rows
        assert again == [seq for seq in sorted(kept) if seq > position]
        # One at a time was settled, in order: at most the last was not known to be.
        assert not settled & set(again)
        assert not {seq for seq in kept if seq <= position and seq % 3 == 0} - rows

        (following,) = await publish_keys(store, None)
        assert following > max(kept)
        stored[following] = b"{}"
        await home.close()
