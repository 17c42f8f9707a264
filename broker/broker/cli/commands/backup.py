"""`broker backup`: copy a store while the broker goes on."""

import os
from pathlib import Path

import click

from broker.cli.failure import Refused, WrongUse
from broker.cli.progress import signs_of_life

MIB = 1024 * 1024


@click.command("backup")
@click.argument("destination", metavar="DEST", type=click.Path())
@click.option(
    "--store",
    metavar="URL",
    help="The store, its file or the folder it is in; BROKER_STORE if not given.",
)
def command(destination: str, store: str | None) -> None:
    """Copy the store, while the broker may be running.

    DEST is a file that does not exist yet. The copy is the store as it is at one moment after the
    start: everything that was acknowledged before is in it.
    """
    from broker.cli.places import store_file
    from broker.config import WrongSetting
    from broker.store.port import Locked, Unusable
    from broker.store.sqlite.backup import Exists, backup

    try:
        source = store_file(store, os.environ)
        with signs_of_life("copying") as tell:
            size = backup(
                source,
                Path(destination).absolute(),
                lambda written: tell(f"{written // MIB:,} MiB written"),
            )
    except (Locked, Unusable, WrongSetting) as refused:
        raise WrongUse(str(refused)) from None
    except Exists as refused:
        raise Refused(str(refused)) from None
    click.echo(f"{destination}: {size:,} bytes")
