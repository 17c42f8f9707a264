"""The command line."""

import argparse
import os
import sys
from collections.abc import Sequence

from broker import __version__
from broker.cli import backup, check
from broker.cli.serve import serve
from broker.config import WrongSetting, settings_from
from broker.store.port import Locked, Unusable
from broker.store.sqlite.backup import Exists

DONE, REFUSED, WRONG_USE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 for done, 1 for refused, 2 for wrong use."""
    parser = argparse.ArgumentParser(
        prog="broker", description="A durable, ordered webhook broker."
    )
    parser.add_argument("--version", action="version", version=f"broker {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "serve", help="run the broker; it is configured by BROKER_… variables"
    ).set_defaults(run=_serve)
    check.add_to(commands)
    backup.add_to(commands)
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except (Locked, Unusable, WrongSetting) as refused:
        print(f"broker {given.command}: {refused}", file=sys.stderr)
        return WRONG_USE
    except Exists as refused:
        print(f"broker {given.command}: {refused}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return REFUSED


def _serve(_: argparse.Namespace) -> int:
    try:
        settings = settings_from(os.environ)
    except WrongSetting as wrong:
        print(f"broker: it does not start, because\n{wrong}", file=sys.stderr)
        return REFUSED
    return serve(settings)
