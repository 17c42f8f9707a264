"""Break the whole stack at random for some minutes, and count what became of what it promised.

`make audit`, or `python -m audit` in `tests/`; `make audit-cluster`, or `--cluster`, breaks three
brokers on three NATS servers instead. Exits with 0 if every promise is kept, 1 if not.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from audit.cluster import Cluster
from audit.report import to_json, to_text
from audit.run import run
from audit.services import Services
from e2e.stack import ROOT

# Beside the checkout's other build results, so on a disk and not in memory.
FOLDER = ROOT / "build" / "audit"
KEPT, BROKEN, INTERRUPTED = 0, 1, 130
CELLS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print the report, return the exit code."""
    options = parse(arguments)
    # End what was started in order on SIGTERM too, not only on an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"seed-{options.seed}-", dir=FOLDER))
    try:
        subject = partial(Cluster, cells=options.cells) if options.cluster else Services
        report = run(subject, options.seed, options.minutes, folder, tell)
    except AssertionError as error:
        tell(f"The stack does not work: {error}\nLook into {folder}.")
        return BROKEN
    except KeyboardInterrupt:
        tell("interrupted")
        shutil.rmtree(folder)
        return INTERRUPTED
    print(to_text(report))
    if options.json is not None:
        options.json.write_text(to_json(report))
    if not report.clean:
        tell(f"Logs, data and {options.seed}'s faults with their times are in {folder}.")
        return BROKEN
    shutil.rmtree(folder)
    return KEPT


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m audit", description=__doc__)
    parser.add_argument("--minutes", type=positive, default=10.0, help="of faults, default 10")
    parser.add_argument("--seed", type=int, default=1, help="decides which, default 1")
    parser.add_argument("--cluster", action="store_true", help="three brokers on NATS JetStream")
    parser.add_argument(
        "--cells",
        type=int,
        choices=range(1, 65),
        default=CELLS,
        metavar="N",
        help=f"of the cluster's store, default {CELLS}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    """Read a number above zero."""
    number = float(text)
    if not 0 < number < 10_000:
        raise ValueError(text)
    return number


def tell(line: str) -> None:
    """Say how things stand."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
