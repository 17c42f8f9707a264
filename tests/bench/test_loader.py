"""wrk is told what to send, and its outcome is read."""

from pathlib import Path

import pytest
from bench.loader import Load, LoadOutcome, parse_outcome, run_wrk
from bench.stopwatch import running_stopwatch

OUTPUT = """\
Running 5s test @ http://127.0.0.1:9111/topics/t/messages
  1 threads and 64 connections
Requests/sec:   1111.48
outcome {"seconds": 5.012154, "answered": 5571, "refused": 71, "broken": 2}
"""


def test_outcome_is_found_in_the_output() -> None:
    assert parse_outcome(OUTPUT) == LoadOutcome(5.012154, answered=5571, refused=71, broken=2)


def test_accepted_leaves_the_refused_out() -> None:
    assert parse_outcome(OUTPUT).accepted == 5500


def test_errors_are_refused_or_broken() -> None:
    assert parse_outcome(OUTPUT).errors == 73


def test_output_without_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="no outcome"):
        parse_outcome("unable to connect to 127.0.0.1:9111 Connection refused\n")


@pytest.mark.usefixtures("wrk")
def test_wrk_counts_refusals(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b'{"index": 1}')
    with running_stopwatch(tmp_path) as stopwatch:  # refuses what is not signed
        load = Load(stopwatch.endpoint, "application/json", body, connections=2, seconds=1)
        outcome = run_wrk(load)
    assert outcome.answered > 0
    assert outcome.accepted == 0
    assert outcome.broken == 0
