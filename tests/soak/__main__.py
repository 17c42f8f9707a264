"""Run the broker under a steady load for long, and see that nothing grows and nothing is lost.

`make soak MINUTES=30`, or `python -m soak` in `tests/`. The load is half of what the machine is
found to take, or `--rate`. Exits with 0 if memory, descriptors, threads and files are flat over the
second half and every message came to everybody, 1 if not.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from soak.report import to_json, to_text
from soak.run import run
from support.broker_process import ROOT

# Beside the checkout's other build results, so on a disk and not in memory.
FOLDER = ROOT / "build" / "soak"
WELL, ILL, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print the report and write it to `build/soak`, return the exit code."""
    options = parse(arguments)
    # End what was started in order on SIGTERM too, not only on an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=FOLDER))
    try:
        report = run(options.minutes, options.rate, folder, tell)
    except KeyboardInterrupt:
        tell("interrupted")
        shutil.rmtree(folder)
        return INTERRUPTED
    written = options.json or FOLDER / "report.json"
    written.write_text(to_json(report))
    written.with_suffix(".txt").write_text(to_text(report) + "\n")
    print(to_text(report))
    if not report.clean:
        tell(f"Logs and data are in {folder}.")
        return ILL
    shutil.rmtree(folder)
    return WELL


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=positive, default=30.0, help="of load, default 30")
    parser.add_argument(
        "--rate", type=positive, help="messages a second; default half of what it takes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    """Read a number above zero."""
    number = float(text)
    if not 0 < number < 1_000_000:
        raise ValueError(text)
    return number


def tell(line: str) -> None:
    """Say how things stand."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
