"""A COMMIT runs where it is cheapest, which is found out and not foreseen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.store.sqlite.commit_place import AWAY, QUICK_COMMIT_S, TRIAL, CommitPlace

QUICK_S = QUICK_COMMIT_S / 10
SLOW_S = QUICK_COMMIT_S * 10


def after(commits: int, waiters: Callable[[bool], int], took_s: float = QUICK_S) -> list[bool]:
    """Return which of so many commits ran on the loop."""
    place = CommitPlace()
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


def test_what_gathers_in_the_thread_only_stays_there() -> None:
    ran = after(3 * (TRIAL + AWAY), lambda on_loop: 1 if on_loop else 5)
    assert ran == 3 * ([True] * TRIAL + [False] * AWAY)


def test_trial_brings_back_what_gathers_on_the_loop() -> None:
    place = CommitPlace()
    for _ in range(TRIAL):
        place.observe(QUICK_S, 1)
    assert not place.on_loop()
    for _ in range(AWAY + 10 * TRIAL):
        place.observe(QUICK_S, 4)
    assert place.on_loop()


def test_commits_that_nobody_waits_for_tell_nothing() -> None:
    assert all(after(10 * TRIAL, lambda on_loop: 0))


def test_burst_after_a_quiet_time_is_soon_on_the_loop() -> None:
    place = CommitPlace()
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
    place = CommitPlace()
    for commit in range(20 * TRIAL):
        place.observe(QUICK_S if commit % (2 * TRIAL) else SLOW_S, 64)
        assert place.on_loop()


def test_disk_that_is_quick_again_is_found_out() -> None:
    place = CommitPlace()
    for _ in range(2):
        place.observe(SLOW_S, 64)
    assert not place.on_loop()
    for _ in range(AWAY):
        place.observe(SLOW_S, 64)
        if place.on_loop():
            break
    assert place.on_loop()
