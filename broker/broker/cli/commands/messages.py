"""`broker messages`: what is in a topic's log."""

import click

from broker.cli.arguments import SEQUENCE, topic_argument
from broker.cli.connection import path_of
from broker.cli.documents import print_document
from broker.cli.paging import Pages, more, paging_options, show_pages
from broker.cli.remote import Remote, remote


@click.group("messages")
def command() -> None:
    """List and show the messages of a topic."""


@command.command("list")
@topic_argument()
@click.option("--key", help="Only those of this key (partitionkey).")
@click.option("--type", "type_", help="Only those of this type.")
@paging_options
@remote
def list_messages(
    told: Remote,
    topic: str,
    key: str | None,
    type_: str | None,
    after: str | None,
    limit: int,
    everything: bool,
) -> None:
    """List messages, the oldest first."""
    from broker.cli.events import COLUMNS, row

    query = {"after": after, "key": key, "type": type_}
    pages = Pages(
        told.connect(),
        path_of("topics", topic, "messages"),
        "messages",
        query,
        None if everything else limit,
    )
    count = show_pages(pages, told.as_json, COLUMNS, row)
    more(told, count, "messages", pages.next)


@command.command("show")
@topic_argument()
@click.argument("sequence", type=SEQUENCE)
@remote
def show_message(told: Remote, topic: str, sequence: int) -> None:
    """Show a message: its attributes, then its data."""
    answer = told.connect().get(path_of("topics", topic, "messages", sequence))
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.events import print_event

    print_event(answer.document())
