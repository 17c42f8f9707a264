"""The command line.

A command's module is imported only when the command is named, and imports what its work needs only
when it works: `broker serve` loads no client, and completing a word no server.
"""

import sys
from io import TextIOWrapper

import click

from broker import __version__
from broker.cli.lazy import LazyGroup
from broker.cli.remote import remote_options

SECTIONS = {
    "Messages": {
        "publish": "publish",
        "tail": "tail",
        "messages": "messages",
        "scheduled": "scheduled",
    },
    "Topics and subscriptions": {
        "topics": "topics",
        "subscriptions": "subscriptions",
        "seek": "seek",
    },
    "When something went wrong": {
        "deliveries": "deliveries",
        "dead-letters": "dead_letters",
        "replay": "replay",
    },
    "Run a broker": {
        "serve": "serve",
        "keys": "keys",
        "check": "check",
        "backup": "backup",
        "migrate": "migrate",
        "completion": "completion",
    },
}


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@remote_options
@click.version_option(__version__, message="broker %(version)s")
def program() -> None:
    """A durable, ordered webhook broker.

    Exit code 0: done. 1: refused, nothing was changed. 2: wrong use.
    """


def main() -> None:
    """Run one command and exit: 0 for done, 1 for refused, 2 for wrong use."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what it cannot encode is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    program(prog_name="broker")
