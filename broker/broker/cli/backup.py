"""`broker backup`: copy a store while the broker goes on."""

import argparse
import os
import sys
import time
from pathlib import Path

from broker.cli.places import store_file
from broker.cli.progress import Progress
from broker.store.sqlite.backup import backup

MIB = 1024 * 1024


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "backup",
        help="copy the store, while the broker may be running",
        description="Copy the store to a new file, as it is at one moment after the start: "
        "everything that was acknowledged before is in it. The broker may be running.",
    )
    parser.add_argument("destination", metavar="DEST", help="a file that does not exist yet")
    parser.add_argument(
        "--store",
        metavar="URL",
        help="the store, its file or the folder it is in; BROKER_STORE if not given",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Copy, and say what was written; return the exit code."""
    source = store_file(arguments.store, os.environ)
    progress = Progress(sys.stderr, time.monotonic)
    size = backup(
        source,
        Path(arguments.destination).absolute(),
        lambda written: progress.tell(f"{written // MIB:,} MiB written"),
    )
    print(f"{arguments.destination}: {size:,} bytes")
    return 0
