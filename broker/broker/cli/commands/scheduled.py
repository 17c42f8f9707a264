"""`broker scheduled`: messages that wait for their time."""

from collections.abc import Mapping
from typing import Any

import click

from broker.cli.arguments import Name, topic_argument
from broker.cli.asking import ask, yes_option
from broker.cli.connection import path_of
from broker.cli.documents import print_document
from broker.cli.paging import Pages, more, paging_options, show_pages
from broker.cli.remote import Remote, remote


@click.group("scheduled")
def command() -> None:
    """List, show, cancel messages that wait for their time."""


@command.command("list")
@topic_argument()
@paging_options
@remote
def list_scheduled(
    told: Remote, topic: str, after: str | None, limit: int, everything: bool
) -> None:
    """List what waits, in the order in which it is due."""
    from broker.cli.listing import Cell, Column
    from broker.cli.rendering import NOTHING, data_of, moment, printable, shortened

    def row(event: Mapping[str, Any]) -> list[Cell]:
        return [
            moment(event["deliverat"]),
            printable(event["id"]),
            printable(event["source"]),
            printable(event["type"]),
            printable(str(event.get("partitionkey", NOTHING))),
            shortened(data_of(event)),
        ]

    columns = (
        Column("due", 24, rank=2),
        Column("id", 12, shrinks=True),
        Column("source", 12, shrinks=True, rank=1),
        Column("type", 8, shrinks=True, rank=4),
        Column("key", 6, shrinks=True, rank=5),
        Column("data", 12, shrinks=True, rank=3),
    )
    pages = Pages(
        told.connect(),
        path_of("topics", topic, "scheduled"),
        "messages",
        {"after": after},
        None if everything else limit,
    )
    count = show_pages(pages, told.as_json, columns, row)
    more(told, count, "messages that wait", pages.next)


@command.command("show")
@topic_argument()
@click.argument("id_", metavar="ID", type=Name())
@click.option("--source", help="The event's source; /topics/TOPIC if not given.")
@remote
def show_scheduled(told: Remote, topic: str, id_: str, source: str | None) -> None:
    """Show a message that waits."""
    answer = told.connect().get(path_of("topics", topic, "scheduled", id_), {"source": source})
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.events import print_event

    print_event(answer.document())


@command.command("cancel")
@topic_argument()
@click.argument("id_", metavar="ID", type=Name())
@click.option("--source", help="The event's source; /topics/TOPIC if not given.")
@yes_option
@remote
def cancel_scheduled(told: Remote, topic: str, id_: str, source: str | None, yes: bool) -> None:
    """Cancel a message that waits; its id may be used anew."""
    connection = told.connect()
    ask(lambda: f"The message {id_} of topic {topic} will never be delivered.", yes=yes)
    path = path_of("topics", topic, "scheduled", id_)
    connection.send("DELETE", path, query={"source": source})
    if not told.as_json:
        click.echo(f"The message {id_} of topic {topic} is cancelled.")
