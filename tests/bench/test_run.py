"""A run goes on after a failure, tells it, and begins no round that it has no time for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from bench.cases import Case
from bench.finding import Finding, LeftOut, Say, Study
from bench.process_tree import Memory
from bench.progress import Progress
from bench.result import Cost, CountsDiffer, Result
from bench.scale import QUICK, USUAL, Scale

from bench import __main__ as command


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    return tmp_path


class Clock(Progress):
    """Time that a test moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.said: list[str] = []

    def elapsed_s(self) -> float:
        return self.now_s

    def say(self, text: str) -> None:
        self.said.append(text)


def done(messages: int = 10) -> Result:
    return Result(messages=messages, seconds=1.0, cost=Cost(1.0, Memory(1, 1), 1))


def case(name: str, measure: Callable[[], Result], missing: str | None = None) -> Case:
    return Case(name, name, lambda folder, seconds: measure(), missing=lambda: missing)


def failing() -> Result:
    raise CountsDiffer("10 were published, 9 came")


def test_failure_is_noted_and_the_rest_goes_on(folder: Path) -> None:
    run = command.Run(QUICK, Clock())
    run.everything([case("a", failing), case("b", done)], [])
    assert run.outcome.failures == {"a": "10 were published, 9 came"}
    assert run.outcome.rounds == [{"b": done()}]
    assert [path.name[:2] for path in folder.iterdir()] == ["a-"]  # to be looked into


def test_round_that_would_end_too_late_is_left_out() -> None:
    clock = Clock()

    def slow() -> Result:
        clock.now_s += 10 * 60
        return done()

    run = command.Run(USUAL, clock)
    run.everything([case("a", slow)], [])
    assert len(run.outcome.rounds) == 2
    assert clock.said[-1] == "round 3 would not end in time, and is left out"


def test_case_whose_program_is_missing_is_left_out() -> None:
    run = command.Run(QUICK, Clock())
    why = "NATS is left out."
    run.everything([case("a", failing, why), case("b", failing, why), case("c", done)], [])
    assert run.outcome.rounds == [{"c": done()}]
    assert list(run.outcome.left_out.values()) == [why]


def test_study_without_room_is_left_out_and_one_that_fails_is_noted() -> None:
    def no_room(folder: Path, scale: Scale, say: Say) -> Finding:
        raise LeftOut("there is no room")

    def fails(folder: Path, scale: Scale, say: Say) -> Finding:
        raise CountsDiffer("one is missing")

    def works(folder: Path, scale: Scale, say: Say) -> Finding:
        say("working")
        return Finding(sentences=("It works.",))

    run = command.Run(QUICK, clock := Clock())
    run.everything([], [Study(f.__name__, f.__name__, "", f) for f in (no_room, fails, works)])
    assert run.outcome.left_out == {"no_room": "there is no room"}
    assert run.outcome.failures == {"fails": "one is missing"}
    assert run.outcome.findings == {"works": Finding(sentences=("It works.",))}
    assert "    working" in clock.said
