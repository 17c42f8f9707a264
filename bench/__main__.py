"""Run the bench: `python -m bench`, from the root of the checkout."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.cases import Case
from bench.drawing import draw_all
from bench.finding import Finding, LeftOut, Study
from bench.machine import describe_machine
from bench.page import FOLDER as CHARTS
from bench.page import charts, to_markdown, to_text
from bench.progress import Progress
from bench.report import Outcome, build_report, to_json
from bench.result import CountsDiffer, Result
from bench.scale import FULL, QUICK, USUAL, Scale
from bench.schedule import PublishFailed
from bench.server_process import ROOT, ServerFailed
from bench.servers import broker_command
from bench.studies import NAMES, chosen_cases, chosen_studies

T = TypeVar("T")
# Beside the checkout's other build results, so on a disk and not in memory.
FOLDER = ROOT / "build" / "bench"
# Where the results of a whole run are kept, and those of any other.
KEPT, PASSING = ROOT / "bench", FOLDER
DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
FAULTS = (CountsDiffer, PublishFailed, ServerFailed, subprocess.CalledProcessError, KeyError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was chosen, write the report, return the exit code."""
    options = parse(arguments)
    missing = missing_programs()
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return WRONG_USE
    # End the servers in order on SIGTERM too, not only on an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(FOLDER)
    scale = scale_of(options)
    cases = chosen_cases(full=options.full, only=options.only)
    studies = chosen_studies(options.only)
    run = Run(scale, Progress())
    try:
        run.everything(cases, studies)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    report = build_report(machine, scale, run.minutes(), cases, studies, run.outcome)
    whole = not (options.only or options.quick)
    results = options.results or (KEPT if whole else PASSING)
    results.mkdir(parents=True, exist_ok=True)
    draw_all(charts(report), results / CHARTS)
    (results / "RESULTS.md").write_text(to_markdown(report))
    (results / CHARTS).mkdir(exist_ok=True)
    (results / CHARTS / "results.json").write_bytes(to_json(report))
    print(to_text(report))
    print(f"\nwritten to {results / 'RESULTS.md'}", file=sys.stderr)
    return FAILED if run.outcome.failures else DONE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--full", action="store_true", help="all cases, and larger ones")
    parser.add_argument(
        "--only", action="append", default=[], choices=NAMES, metavar="CASE", help=", ".join(NAMES)
    )
    parser.add_argument("--rounds", type=positive, help=f"default {USUAL.rounds}")
    parser.add_argument("--seconds", type=positive, help=f"load on each case, {USUAL.case_s}")
    parser.add_argument("--minutes", type=positive, help=f"bound of the run, {USUAL.minutes:g}")
    parser.add_argument("--backlog", type=positive, help=f"messages, {USUAL.backlog:,}")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where RESULTS.md goes")
    return parser.parse_args(arguments)


def scale_of(options: argparse.Namespace) -> Scale:
    """Say how much is to be done."""
    scale = QUICK if options.quick else FULL if options.full else USUAL
    wanted = {
        "rounds": options.rounds,
        "case_s": options.seconds,
        "minutes": options.minutes,
        "backlog": options.backlog,
    }
    return replace(scale, **{name: value for name, value in wanted.items() if value is not None})


def positive(text: str) -> int:
    """Read a number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def missing_programs() -> list[str]:
    """Say for each program that is not installed how to install it."""
    hints = {"wrk": "apt-get install wrk", "nginx": "apt-get install nginx-light"}
    hints[str(broker_command())] = "make setup"
    return [
        f"{program} is missing; install it with `{hint}`."
        for program, hint in hints.items()
        if shutil.which(program) is None
    ]


class Run:
    """One run: a round of the cases, the studies, then more rounds while there is time."""

    def __init__(self, scale: Scale, progress: Progress) -> None:
        self.outcome = Outcome()
        self._scale = scale
        self._progress = progress

    def minutes(self) -> float:
        """Say how long it has taken so far."""
        return self._progress.elapsed_s() / 60

    def everything(self, cases: Sequence[Case], studies: Sequence[Study]) -> None:
        """Run all; what fails is noted, and the rest goes on."""
        possible = [case for case in cases if self._possible(case)]
        longest = self._round(possible, 1) if possible else 0.0
        for study in studies:
            self._study(study)
        if possible:
            for number in range(2, self._scale.rounds + 1):
                if self.minutes() + longest > self._scale.minutes:
                    self._progress.say(f"round {number} would not end in time, and is left out")
                    break
                longest = max(longest, self._round(possible, number))

    def _possible(self, case: Case) -> bool:
        why = case.missing()
        if why is not None and why not in self.outcome.left_out.values():
            self._progress.say(why)
            self.outcome.left_out[case.name] = why
        return why is None

    def _round(self, cases: Sequence[Case], number: int) -> float:
        """Run the cases in turn, telling each result as it comes; return the minutes it took."""
        started = self.minutes()
        results: dict[str, Result] = {}
        self.outcome.rounds.append(results)
        for case in cases:
            self._progress.say(f"round {number}/{self._scale.rounds}  {case.title}")
            result = self._in_folder(case.name, partial(self._measure_case, case))
            if result is not None:
                results[case.name] = result
                self._progress.step(outcome_line(result))
        return self.minutes() - started

    def _study(self, study: Study) -> None:
        self._progress.say(study.title)
        finding = self._in_folder(study.name, partial(self._measure_study, study))
        if finding is not None:
            self.outcome.findings[study.name] = finding

    def _measure_case(self, case: Case, folder: Path) -> Result:
        return case.measure(folder, self._scale.case_s)

    def _measure_study(self, study: Study, folder: Path) -> Finding:
        return study.measure(folder, self._scale, self._progress.step)

    def _in_folder(self, name: str, measure: Callable[[Path], T]) -> T | None:
        """Measure in a folder of its own, which stays only if that fails."""
        os.sync()  # what was measured before has its writes behind it
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=FOLDER))
        try:
            found = measure(folder)
        except LeftOut as why:
            self._progress.step(str(why))
            self.outcome.left_out[name] = str(why)
            found = None
        except FAULTS as error:
            self._progress.step(f"failed: {error}\nLook into {folder}.")
            self.outcome.failures[name] = str(error)
            return None
        shutil.rmtree(folder)
        return found


def outcome_line(result: Result) -> str:
    """Say in a few words what a case found."""
    if result.latency is None:
        return f"{result.per_second:,.0f}/s"
    spread = result.latency.to_webhook
    return f"p50 {spread.p50_ms:.2f} ms, p99 {spread.p99_ms:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
