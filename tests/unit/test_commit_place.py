"""A COMMIT runs where it is cheapest, which is found out and not foreseen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from broker.store.sqlite.commit_place import (
    AWAY,
    QUICK_COMMIT_S,
    STALL_S,
    TRIAL,
    CommitPlace,
)

QUICK_S = QUICK_COMMIT_S / 10
SLOW_S = STALL_S


class Loop:
    """A place for commits, and how a loop spends the time of each: at work, or at rest."""

    def __init__(self, works_s: float = QUICK_S, rests_s: float = 0.0) -> None:
        self.works_s, self.rests_s = works_s, rests_s
        self.now_s = self.claimed_s = 0.0
        self.place = CommitPlace(lambda: self.now_s, lambda: self.claimed_s)

    def on_loop(self) -> bool:
        return self.place.on_loop()

    def observe(self, took_s: float, waiters: int) -> None:
        """Have a commit take so long; in the thread, the loop works meanwhile."""
        self.now_s += took_s + self.works_s + self.rests_s
        self.claimed_s += self.works_s if self.on_loop() else self.works_s + took_s
        self.place.observe(took_s, waiters)


def after(
    commits: int,
    waiters: Callable[[bool], int],
    took_s: float = QUICK_S,
    loop: Loop | None = None,
) -> list[bool]:
    """Return which of so many commits ran on the loop."""
    place = loop or Loop()
    ran = []
    for _ in range(commits):
        ran.append(place.on_loop())
        place.observe(took_s, waiters(ran[-1]))
    return ran


@pytest.mark.parametrize("waiters", [2, 64])
def test_commit_for_many_runs_on_the_loop(waiters: int) -> None:
    assert all(after(10 * (TRIAL + AWAY), lambda on_loop: waiters))


def test_commit_for_one_runs_in_the_thread_but_for_trials() -> None:
    ran = after(3 * (TRIAL + AWAY), lambda on_loop: 1)
    assert ran == 3 * ([True] * TRIAL + [False] * AWAY)


def test_loop_that_rests_commits_for_one_itself() -> None:
    loop = Loop(works_s=QUICK_S, rests_s=QUICK_S)  # a third of the time
    assert all(after(3 * (TRIAL + AWAY), lambda on_loop: 1, loop=loop))


def test_loop_that_hardly_rests_has_the_thread_commit_for_one() -> None:
    loop = Loop(works_s=QUICK_S, rests_s=QUICK_S / 4)  # a ninth of the time
    assert not all(after(TRIAL + 1, lambda on_loop: 1, loop=loop))


def test_rest_before_a_trial_is_none_of_it() -> None:
    loop = Loop()
    assert not all(after(TRIAL + 1, lambda on_loop: 1, loop=loop))
    loop.rests_s = 1.0  # of the thread's commits
    while not loop.on_loop():
        loop.observe(QUICK_S, 1)
    loop.rests_s = 0.0
    assert after(TRIAL + 1, lambda on_loop: 1, loop=loop)[-1] is False


def test_loop_at_rest_leaves_a_slow_disk_to_the_thread() -> None:
    ran = after(10_000, lambda on_loop: 1, SLOW_S, Loop(rests_s=10 * SLOW_S))
    assert sum(ran) / len(ran) < 0.04


def test_stall_of_the_disk_stops_the_loop_once() -> None:
    place = Loop(rests_s=1.0)
    place.observe(STALL_S * 1.01, 1)
    assert not place.on_loop()


def test_time_that_a_thread_waits_for_a_processor_is_claimed() -> None:
    code = """
import os, subprocess, sys, time
from broker.store.sqlite.commit_place import claimed_s

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    began, claimed, worked = time.monotonic(), claimed_s(), time.thread_time()
    while time.monotonic() < began + 1:
        pass
    print(claimed_s() - claimed, time.thread_time() - worked)
finally:
    rival.kill()
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    claimed, worked = map(float, told.stdout.split())
    assert claimed > 1.2 * worked


def test_what_gathers_in_the_thread_only_stays_there() -> None:
    ran = after(3 * (TRIAL + AWAY), lambda on_loop: 1 if on_loop else 5)
    assert ran == 3 * ([True] * TRIAL + [False] * AWAY)


def test_trial_brings_back_what_gathers_on_the_loop() -> None:
    place = Loop()
    for _ in range(TRIAL):
        place.observe(QUICK_S, 1)
    assert not place.on_loop()
    for _ in range(AWAY + 10 * TRIAL):
        place.observe(QUICK_S, 4)
    assert place.on_loop()


def test_commits_that_nobody_waits_for_tell_nothing() -> None:
    assert all(after(10 * TRIAL, lambda on_loop: 0))


def test_burst_after_a_quiet_time_is_soon_on_the_loop() -> None:
    place = Loop()
    for _ in range(TRIAL):
        place.observe(QUICK_S, 1)
    commits = 0
    while not place.on_loop():
        place.observe(SLOW_S, 64)  # the loop is busy, and hears late that it is over
        commits += 1
    assert commits <= AWAY // 16
    for _ in range(10 * TRIAL):
        place.observe(QUICK_S, 64)
        assert place.on_loop()


def test_slow_disk_is_waited_for_in_the_thread() -> None:
    ran = after(10_000, lambda on_loop: 2, SLOW_S)
    assert sum(ran) / len(ran) < 0.04
    assert not any(all(ran[n : n + 3]) for n in range(len(ran)))


def test_disk_that_is_slow_once_stays_on_the_loop() -> None:
    place = Loop()
    for commit in range(20 * TRIAL):
        place.observe(QUICK_S if commit % (2 * TRIAL) else SLOW_S, 64)
        assert place.on_loop()


def test_disk_that_is_quick_again_is_found_out() -> None:
    place = Loop()
    for _ in range(2):
        place.observe(SLOW_S, 64)
    assert not place.on_loop()
    for _ in range(AWAY):
        place.observe(SLOW_S, 64)
        if place.on_loop():
            break
    assert place.on_loop()
