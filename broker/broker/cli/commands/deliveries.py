"""`broker deliveries`: what a subscription is owed and has been tried, or waits."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from broker.cli.arguments import SEQUENCE, subscription_argument, topic_argument
from broker.cli.connection import path_of
from broker.cli.documents import print_document
from broker.cli.paging import Pages, more, paging_options, show_pages
from broker.cli.remote import Remote, remote

STATES = ("in-flight", "retrying", "blocked", "waiting")


@click.group("deliveries")
def command() -> None:
    """List what is not settled; retry it, or give it up."""


@command.command("list")
@topic_argument()
@subscription_argument()
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@paging_options
@remote
def list_deliveries(
    told: Remote,
    topic: str,
    subscription: str,
    state: str | None,
    after: str | None,
    limit: int,
    everything: bool,
) -> None:
    """List what is in flight, retrying, blocked, or waiting behind its key; state by state."""
    from broker.cli.listing import Cell, Column
    from broker.cli.rendering import NOTHING, moment, printable

    connection = told.connect()
    path = _path(topic, subscription)
    left = None if everything else limit
    following: list[tuple[str, int | str]] = []

    def pages() -> Iterator[list[bytes]]:
        for each in STATES if state is None else (state,):
            found = Pages(connection, path, "deliveries", {"state": each, "after": after}, left)
            yield from found
            if found.next is not None:
                following.append((each, found.next))

    def row(delivery: Mapping[str, Any]) -> list[Cell]:
        when = delivery["next_attempt_at"] or delivery["ack_deadline_at"]
        colour = "red" if delivery["state"] == "blocked" else ""
        return [
            str(delivery["sequence"]),
            (delivery["state"], colour),
            str(delivery["attempt"]),
            moment(when),
            printable(delivery["key"] or NOTHING),
            printable(delivery["type"] or NOTHING),
            printable(delivery["last_error"] or NOTHING),
        ]

    columns = (
        Column("sequence", right=True),
        Column("state", 9, rank=1),
        Column("attempt", right=True, rank=2),
        Column("until", 24, rank=3),
        Column("key", 8, shrinks=True, rank=4),
        Column("type", 8, shrinks=True, rank=5),
        Column("last error", 16, shrinks=True),
    )
    count = show_pages(pages(), told.as_json, columns, row)
    more(told, count, "such deliveries", None)
    if not told.as_json:
        for each, after_ in following:
            click.echo(f"There are more; read on with --state {each} --after {after_}.", err=True)


@command.command("retry")
@topic_argument()
@subscription_argument()
@click.argument("sequences", metavar="SEQUENCE...", nargs=-1, required=True, type=SEQUENCE)
@remote
def retry(told: Remote, topic: str, subscription: str, sequences: tuple[int, ...]) -> None:
    """Attempt blocked or retrying deliveries now."""
    _act(told, topic, subscription, sequences, "retry", "is tried again")


@command.command("dead-letter")
@topic_argument()
@subscription_argument()
@click.argument("sequences", metavar="SEQUENCE...", nargs=-1, required=True, type=SEQUENCE)
@remote
def dead_letter(told: Remote, topic: str, subscription: str, sequences: tuple[int, ...]) -> None:
    """Give up blocked or retrying deliveries; they become dead letters."""
    _act(told, topic, subscription, sequences, "dead-letter", "is a dead letter")


@command.command("attempts")
@topic_argument()
@subscription_argument()
@click.argument("sequence", type=SEQUENCE)
@remote
def attempts(told: Remote, topic: str, subscription: str, sequence: int) -> None:
    """List the failed attempts at a message, with what the endpoint answered."""
    path = path_of("topics", topic, "subscriptions", subscription, "messages", sequence, "attempts")
    answer = told.connect().get(path)
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.attempts import print_attempts

    print_attempts(answer.document()["attempts"])


def _act(
    told: Remote,
    topic: str,
    subscription: str,
    sequences: tuple[int, ...],
    action: str,
    done: str,
) -> None:
    connection = told.connect()
    for sequence in sequences:
        answer = connection.send("POST", f"{_path(topic, subscription)}/{sequence}/{action}")
        if told.as_json:
            print_document(answer.body)
        else:
            click.echo(f"Delivery {sequence} of {topic}/{subscription} {done}.")


def _path(topic: str, subscription: str) -> str:
    return path_of("topics", topic, "subscriptions", subscription, "deliveries")
