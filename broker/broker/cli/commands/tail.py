"""`broker tail`: watch a topic live."""

import sys
from functools import partial

import click

from broker.cli.arguments import topic_argument
from broker.cli.remote import Remote, remote


@click.command("tail")
@topic_argument()
@click.option("--key", help="Only those of this key (partitionkey).")
@click.option("--type", "type_", help="Only those of this type.")
@click.option(
    "--after", type=click.IntRange(min=0), help="Begin behind this sequence; 0: with all."
)
@click.option("--last", type=click.IntRange(min=0), help="Begin with so many that are there.")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many.")
@remote
def command(
    told: Remote,
    topic: str,
    key: str | None,
    type_: str | None,
    after: int | None,
    last: int | None,
    limit: int | None,
) -> None:
    """Follow a topic live, until Ctrl-C.

    Each message is a line, as soon as it is stored. It settles nothing. When
    the broker is restarted it goes on where it was, with nothing missed.
    """
    if after is not None and last is not None:
        raise click.UsageError("Give --after or --last, not both.")
    from broker.cli.documents import print_line, read
    from broker.cli.events import COLUMNS, row
    from broker.cli.following import Following
    from broker.cli.listing import Listing

    listing = Listing(COLUMNS)
    following = Following(
        told.connect(), topic, {"key": key, "type": type_}, partial(click.echo, err=True)
    )
    left = limit
    try:
        for events in following.begin(after, last or 0):
            wanted = events if left is None else events[:left]
            if told.as_json:
                for event in wanted:
                    print_line(event.data)
            else:
                listing.add([row(read(event.data)) for event in wanted])
            sys.stdout.flush()
            if left is not None:
                left -= len(wanted)
                if not left:
                    return
    except KeyboardInterrupt:
        return
