"""Loops beside the requests: they go on after a failure, and stop between two steps."""

from __future__ import annotations

import logging
import threading

import pytest

from order_service.background import Loop
from support.eventually import eventually


def test_loop_takes_steps_until_it_is_stopped() -> None:
    steps: list[int] = []

    def step() -> float:
        steps.append(1)
        return 0

    loop = Loop("test", step)
    loop.start()
    loop.start()
    eventually(lambda: len(steps) > 3)
    loop.stop()

    count = len(steps)
    assert [thread for thread in threading.enumerate() if thread.name == "test"] == []
    assert len(steps) == count


def test_stop_waits_for_the_step_under_way() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def step() -> float:
        began.set()
        may_end.wait(10)
        ended.set()
        return 3600

    loop = Loop("test", step)
    loop.start()
    assert began.wait(10)
    threading.Timer(0.1, may_end.set).start()
    loop.stop()

    assert ended.is_set()


def test_stop_ends_a_long_wait_at_once() -> None:
    stepped = threading.Event()

    def step() -> float:
        stepped.set()
        return 3600

    loop = Loop("test", step)
    loop.start()
    assert stepped.wait(10)
    loop.stop()

    assert [thread for thread in threading.enumerate() if thread.name == "test"] == []


def test_loop_goes_on_after_a_failure_that_it_logs(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = [ValueError("no"), None]
    done = threading.Event()

    def step() -> float:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        done.set()
        return 3600

    loop = Loop("test", step)
    with caplog.at_level(logging.ERROR):
        loop.start()
        assert done.wait(10)
    loop.stop()

    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage().startswith("test failed")
