"""`broker migrate`: move a store from its file to NATS JetStream."""

import asyncio
from pathlib import Path

import click

from broker.cli.failure import Refused, WrongUse
from broker.cli.progress import signs_of_life


@click.command("migrate")
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
def command(source: str, destination: str) -> None:
    """Move everything from FROM, a sqlite:/// URL, to TO, a nats:// URL.

    Topics, messages, subscriptions with their positions and retries, delayed messages, dead letters
    and keys. The broker of FROM must be stopped, and nothing may be at TO yet. FROM stays as it is.
    What is cut off can be begun again. Where TO ends with ?cells=<n>, each cell gets the topics
    that are its own.
    """
    from broker.cli.places import store_file
    from broker.config import WrongSetting
    from broker.nats_address import ALLOWED, parse_address
    from broker.store.jetstream.migration import Differs, NotEmpty, migrate_store
    from broker.store.port import Locked, Unavailable, Unusable

    try:
        address = parse_address(destination)
    except ValueError:
        raise WrongUse(f"TO has to be {ALLOWED}.") from None
    try:
        file: Path = store_file(source, {})
        with signs_of_life("moving") as tell:
            moved = asyncio.run(migrate_store(file, address, tell))
    except (Locked, Unusable, WrongSetting) as refused:
        raise WrongUse(str(refused)) from None
    except (NotEmpty, Differs, Unavailable) as refused:
        raise Refused(str(refused)) from None
    for each in moved:
        cell = f"{each.cell:>2}  " if address.cells > 1 else ""
        click.echo(f"{cell}{each.table:<12} {each.rows:>12,}  {each.digest[:16]}")
    cells = f"?cells={address.cells}" if address.cells > 1 else ""
    click.echo(f"Moved to {address}. Start the broker with BROKER_STORE={address}{cells}.")
