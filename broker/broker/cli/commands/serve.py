"""`broker serve`: run the broker."""

import os
import sys

import click


@click.command("serve")
def command() -> None:
    """Run the broker, configured by BROKER_… variables."""
    from broker.cli.serve import serve
    from broker.config import WrongSetting, settings_from

    try:
        settings = settings_from(os.environ)
    except WrongSetting as wrong:
        click.echo(f"broker: it does not start, because\n{wrong}", err=True)
        sys.exit(1)
    sys.exit(serve(settings))
