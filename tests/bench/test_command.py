"""The command measures, reports and exits as it says."""

from pathlib import Path

import msgspec
import pytest

from bench import __main__ as command


@pytest.mark.usefixtures("wrk", "nginx")
def test_baseline_is_measured_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--only", "baseline", "--rounds", "1", "--seconds", "1"]
    arguments += ["--results", str(tmp_path)]
    assert command.main(arguments) == 0
    printed = capsys.readouterr()
    assert "round 1/1  baseline" in printed.err
    assert "x baseline" in printed.out
    assert "| baseline: Flask, gthread, SQLite |" in (tmp_path / "RESULTS.md").read_text()
    report = (tmp_path / "results" / "results.json").read_bytes()
    summary = msgspec.json.decode(report)["summaries"]["baseline"]
    assert summary["per_second"] > 0
    assert summary["ratio"] == 1.0
    assert summary["database_bytes"] > 0


def test_missing_program_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert command.main([]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "x"], ["--only", "x"]])
def test_wrong_use_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
