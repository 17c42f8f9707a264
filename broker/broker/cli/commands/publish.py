"""`broker publish`: store messages."""

from collections.abc import Mapping
from typing import IO, Any

import click

from broker.cli.arguments import Moment, pairs, topic_argument
from broker.cli.documents import print_document, print_line
from broker.cli.failure import Refused
from broker.cli.remote import Remote, remote
from broker.cli.rendering import counted


@click.command("publish")
@topic_argument()
@click.argument("data", required=False, metavar="[DATA|-|@FILE]")
@click.option("--id", help="The event's id, by which a repeat is recognised; made if not given.")
@click.option("--type", help="The event's type; the topic's name if not given.")
@click.option("--source", help="The event's source; /topics/TOPIC if not given.")
@click.option("--subject", help="What the event is about.")
@click.option("--key", "partitionkey", help="The key that keeps its order (partitionkey).")
@click.option("--deliver-at", "deliverat", type=Moment(), help="Not before: a time, or +10m.")
@click.option("--expires", "expirytime", type=Moment(), help="Not after: a time, or +10m.")
@click.option("--content-type", metavar="TYPE", help="Of the data; worked out if not given.")
@click.option(
    "--attribute",
    "others",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other attribute. May be repeated.",
)
@click.option(
    "--batch",
    type=click.File("rb"),
    help="A file with an event in each line, as JSON; - reads the standard input.",
)
@remote
def command(
    told: Remote,
    topic: str,
    data: str | None,
    content_type: str | None,
    others: tuple[str, ...],
    batch: IO[bytes] | None,
    **attributes: str | None,
) -> None:
    """Publish a message, or a file of them with --batch.

    It is done once it is on disk.

    DATA is text or JSON; - reads it from the standard input, @FILE from a file. What is JSON is
    published as application/json, other text as text/plain, other bytes as
    application/octet-stream.

    Lines of a --batch are events as CloudEvents has them in JSON. What they leave out is filled in:
    specversion, id, source, type and time. Each thousand lines are stored all or none.
    """
    given = {name: value for name, value in attributes.items() if value is not None}
    given |= pairs(others, "=", "--attribute")
    if batch is not None:
        _publish_batch(told, topic, batch, given, data, content_type)
        return
    from broker.cli.publishing import Publisher, content_of

    content, type_ = content_of(data, content_type)
    answer = Publisher(told.connect(), topic).publish(given, content, type_)
    if told.as_json:
        print_document(answer.body)
        return
    stored = answer.document()
    if stored["duplicate"]:
        click.echo(f"It was there already, as message {stored['sequence']} of {topic}.")
    elif stored["sequence"] is None:
        click.echo(f"Message {stored['id']} of {topic} waits for its time.")
    else:
        click.echo(f"Message {stored['sequence']} of {topic} is stored.")


def _publish_batch(
    told: Remote,
    topic: str,
    file: IO[bytes],
    given: Mapping[str, Any],
    data: str | None,
    content_type: str | None,
) -> None:
    from broker.cli.batches import batches_in
    from broker.cli.progress import bar
    from broker.cli.publishing import Publisher

    if data is not None or content_type is not None or "id" in given:
        raise click.UsageError("Data, its type and an id stand in the lines of a --batch.")
    publisher = Publisher(told.connect(), topic)
    defaults = {"source": f"/topics/{topic}", "type": topic, **given}
    count = repeated = last = 0
    try:
        with bar("publishing", file) as tell:
            for batch in batches_in(file, defaults):
                for stored in publisher.publish_batch(batch, begun=count > 0):
                    count += 1
                    repeated += b'"duplicate":true' in stored
                    if told.as_json:
                        print_line(stored)
                last = batch.lines[-1]
                tell(f"{counted(count, 'message')} published")
    except Refused as refused:
        if not count:
            raise
        before = f"{counted(count, 'message')} published before, up to line {last}"
        raise Refused(f"{refused}\n{before}.") from None
    if not told.as_json:
        there = f", of which {repeated:,} were there already" if repeated else ""
        click.echo(f"{counted(count, 'message')} published to {topic}{there}.")
