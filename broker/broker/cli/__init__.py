"""The command line.

A command's module is imported only when the command is named, and imports what its work needs only
when it works: `broker serve` loads no client, and completing a word no server.
"""

import click

from broker import __version__
from broker.cli.lazy import LazyGroup

SECTIONS = {
    "Run a broker": {
        "serve": "serve",
        "check": "check",
        "backup": "backup",
    },
}


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="broker %(version)s")
def program() -> None:
    """A durable, ordered webhook broker.

    Exit code 0: done. 1: refused, nothing was changed. 2: wrong use.
    """


def main() -> None:
    """Run one command and exit: 0 for done, 1 for refused, 2 for wrong use."""
    program(prog_name="broker")
