"""`broker check`: verify a store that no broker uses."""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from broker.cli.places import store_file
from broker.cli.progress import Progress
from broker.cli.table import table
from broker.store.sqlite.check import Report, check


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "check",
        help="verify a data folder that no broker uses",
        description="Verify a store that no broker uses, and change nothing. "
        "Exit code 0: all is well; 1: there are faults; 2: it cannot be checked.",
    )
    parser.add_argument(
        "path", nargs="?", metavar="PATH", help="the store's file, or the folder it is in"
    )
    parser.add_argument("--store", metavar="URL", help="the store; BROKER_STORE if not given")
    parser.add_argument("--json", action="store_true", help="write JSON instead of a table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, and print what was found; return the exit code."""
    path = store_file(arguments.path or arguments.store, os.environ)
    progress = Progress(sys.stderr, time.monotonic)
    report = check(path, lambda what: progress.tell(f"still looking at {what}"))
    print(as_json(path, report) if arguments.json else as_table(path, report))
    return 0 if report.ok else 1


def as_json(path: Path, report: Report) -> str:
    """Render a report for programs."""
    found = {"store": str(path), "ok": report.ok, **asdict(report)}
    return json.dumps(found, indent=2)


def as_table(path: Path, report: Report) -> str:
    """Render a report for people."""
    rows = [
        (each.what, f"{each.looked_at:,}", f"{each.fault_count:,}", each.note)
        for each in report.checked
    ]
    lines = [f"{path}, schema {report.schema}", ""]
    lines += table(("what", "looked at", "faults", ""), rows, right=(1, 2))
    for each in report.checked:
        if each.faults:
            lines += ["", f"{each.what}:"]
            lines += [f"  {fault}" for fault in each.faults]
            if each.fault_count > len(each.faults):
                lines.append(f"  … and {each.fault_count - len(each.faults):,} more")
    faults = sum(each.fault_count for each in report.checked)
    lines += ["", "All is well." if report.ok else f"There are faults: {faults:,}."]
    return "\n".join(lines)
