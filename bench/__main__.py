"""Run the bench: `python -m bench`, from the root of the checkout."""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.cases import CASES, Case, chosen_cases
from bench.machine import describe_machine
from bench.report import Round, build_report, to_json, to_text
from bench.result import CountsDiffer, Result
from bench.schedule import PublishFailed
from bench.server_process import ROOT, ServerFailed
from bench.servers import broker_command

# Beside the checkout's other build results, so on a disk and not in memory.
FOLDER = ROOT / "build" / "bench"
ROUNDS, SECONDS = 3, 10
QUICK_ROUNDS, QUICK_SECONDS = 1, 5
DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cases, print the report, return the exit code."""
    options = parse(arguments)
    missing = missing_programs()
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return WRONG_USE
    # End the servers in order on SIGTERM too, not only on an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(FOLDER)
    cases = chosen_cases(full=options.full, only=options.only)
    try:
        rounds = run_rounds(options.rounds, cases, options.seconds)
    except (CountsDiffer, PublishFailed, ServerFailed, subprocess.CalledProcessError) as error:
        print(f"failed\n{error}\nLook into the newest folder in {FOLDER}.", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    report = build_report(machine, options.seconds, cases, rounds)
    print(to_text(report))
    if options.json is not None:
        options.json.write_bytes(to_json(report))
    return DONE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--full", action="store_true", help="all cases, not only the usual ones")
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="CASE")
    parser.add_argument("--rounds", type=positive, help=f"default {ROUNDS}")
    parser.add_argument("--seconds", type=positive, help=f"load on each case, default {SECONDS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args(arguments)
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    options.rounds = rounds if options.rounds is None else options.rounds
    options.seconds = seconds if options.seconds is None else options.seconds
    return options


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


def run_rounds(count: int, cases: Sequence[Case], seconds: float) -> list[Round]:
    """Run the cases in turn, so many times, telling each result as it comes."""
    return [
        {case.name: run_case(case, seconds, f"round {number}/{count}") for case in cases}
        for number in range(1, count + 1)
    ]


def run_case(case: Case, seconds: float, label: str) -> Result:
    """Run one case in a folder of its own, which stays only if the case fails."""
    print(f"{label}  {case.title} … ", end="", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{case.name}-", dir=FOLDER))
    result = case.measure(folder, seconds)
    shutil.rmtree(folder)
    print(outcome_line(result), file=sys.stderr, flush=True)
    return result


def outcome_line(result: Result) -> str:
    """Say in a few words what a case found."""
    if result.latency is None:
        return f"{result.per_second:,.0f}/s"
    spread = result.latency.to_webhook
    return f"p50 {spread.p50_ms:.2f} ms, p99 {spread.p99_ms:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
