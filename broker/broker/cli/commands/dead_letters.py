"""`broker dead-letters`: what a subscription has given up."""

from collections.abc import Mapping
from typing import Any

import click

from broker.cli.arguments import SEQUENCE, subscription_argument, topic_argument
from broker.cli.asking import ask, yes_option
from broker.cli.commands.replay import command as replay
from broker.cli.connection import path_of
from broker.cli.documents import print_document
from broker.cli.paging import Pages, more, paging_options, show_pages
from broker.cli.remote import Remote, remote


@click.group("dead-letters")
def command() -> None:
    """List, show, replay, delete dead letters."""


command.add_command(replay)


@command.command("list")
@topic_argument()
@subscription_argument()
@paging_options
@remote
def list_dead_letters(
    told: Remote,
    topic: str,
    subscription: str,
    after: str | None,
    limit: int,
    everything: bool,
) -> None:
    """List dead letters, with the reason."""
    from broker.cli.listing import Cell, Column
    from broker.cli.rendering import NOTHING, data_of, moment, printable, shortened

    def row(letter: Mapping[str, Any]) -> list[Cell]:
        message = letter["message"]
        return [
            moment(letter["dead_at"]),
            str(letter["sequence"]),
            printable(letter["key"] or NOTHING),
            str(letter["attempts"]),
            printable(letter["reason"]),
            printable(message["type"]),
            shortened(data_of(message)),
        ]

    columns = (
        Column("since", 24, rank=3),
        Column("sequence", right=True),
        Column("key", 6, shrinks=True, rank=2),
        Column("attempts", right=True, rank=4),
        Column("reason", 12, shrinks=True),
        Column("type", 8, shrinks=True, rank=5),
        Column("data", 12, shrinks=True, rank=1),
    )
    pages = Pages(
        told.connect(),
        _path(topic, subscription),
        "dead_letters",
        {"after": after},
        None if everything else limit,
    )
    count = show_pages(pages, told.as_json, columns, row)
    more(told, count, "dead letters", pages.next)


@command.command("show")
@topic_argument()
@subscription_argument()
@click.argument("sequence", type=SEQUENCE)
@remote
def show_dead_letter(told: Remote, topic: str, subscription: str, sequence: int) -> None:
    """Show a dead letter: the reason, the failed attempts, the message."""
    answer = told.connect().get(f"{_path(topic, subscription)}/{sequence}")
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.attempts import print_attempts
    from broker.cli.events import print_event
    from broker.cli.listing import print_fields
    from broker.cli.rendering import moment, said

    letter = answer.document()
    print_fields(
        (
            ("reason", (said(letter["reason"]), "red")),
            ("attempts", said(letter["attempts"])),
            ("dead_at", moment(letter["dead_at"])),
        )
    )
    if letter["failed_attempts"]:
        click.echo()
        print_attempts(letter["failed_attempts"])
    click.echo()
    print_event(letter["message"])


@command.command("delete")
@topic_argument()
@subscription_argument()
@click.argument("sequences", metavar="SEQUENCE...", nargs=-1, required=True, type=SEQUENCE)
@yes_option
@remote
def delete_dead_letters(
    told: Remote, topic: str, subscription: str, sequences: tuple[int, ...], yes: bool
) -> None:
    """Forget dead letters; the subscription is not sent them again."""
    connection = told.connect()
    named = ", ".join(map(str, sequences))
    ask(
        lambda: f"{topic}/{subscription} will not be sent {named} again, not even by a replay.",
        yes=yes,
    )
    for sequence in sequences:
        connection.send("DELETE", f"{_path(topic, subscription)}/{sequence}")
        if not told.as_json:
            click.echo(f"Dead letter {sequence} of {topic}/{subscription} is deleted.")


def _path(topic: str, subscription: str) -> str:
    return path_of("topics", topic, "subscriptions", subscription, "dead-letters")
