"""`broker topics`: the logs that messages are published to."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import IO, Any

import click

from broker.cli.arguments import Duration, Size, topic_argument
from broker.cli.asking import ask, yes_option
from broker.cli.connection import Refusal, path_of
from broker.cli.documents import print_document
from broker.cli.failure import Refused
from broker.cli.fields import Field, body_of, field_options
from broker.cli.remote import Remote, remote
from broker.cli.rendering import counted

FIELDS = (
    Field("--max-age", "retention.max_age_s", Duration(), "Keep settled messages for so long."),
    Field("--max-bytes", "retention.max_bytes", Size(), "Keep no more bytes of settled messages."),
    Field("--max-messages", "retention.max_messages", click.INT, "Keep no more settled messages."),
    Field("--dedup-window", "dedup_window_s", Duration(), "Recognise repeats for so long."),
)


@click.group("topics")
def command() -> None:
    """List, create, update, delete topics."""


@command.command("list")
@remote
def list_topics(told: Remote) -> None:
    """List the topics."""
    answer = told.connect().get(path_of("topics"))
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.listing import Column, Listing
    from broker.cli.rendering import NOTHING, size

    topics = answer.document()["topics"]
    listing = Listing(
        (
            Column("name", 12, shrinks=True),
            Column("messages", right=True),
            Column("size", right=True, rank=2),
            Column("first", right=True, rank=3),
            Column("last", right=True, rank=3),
            Column("subscriptions", 13, shrinks=True, rank=1),
        )
    )
    listing.add(
        [
            (
                each["name"],
                f"{each['message_count']:,}",
                size(each["bytes"]),
                str(each["first_sequence"]),
                str(each["last_sequence"]),
                ", ".join(each["subscriptions"]) or NOTHING,
            )
            for each in topics
        ]
    )
    if not topics:
        click.echo("There are no topics.", err=True)


@command.command("show")
@topic_argument()
@remote
def show_topic(told: Remote, topic: str) -> None:
    """Show a topic: its configuration, and what it holds."""
    answer = told.connect().get(path_of("topics", topic))
    _print(told, answer.body, answer.document())


@command.command("create")
@topic_argument()
@field_options(FIELDS)
@click.option("--schema", type=click.File("rb"), help="A file with a JSON Schema for data.")
@click.option("--or-update", is_flag=True, help="Update it if it is there.")
@remote
def create_topic(
    told: Remote, topic: str, schema: IO[bytes] | None, or_update: bool, **options: Any
) -> None:
    """Create a topic. Publishing and subscribing create one too, unless the broker is told not to.

    "none" as a value takes a limit away, or restores the default.
    """
    from broker.cli.configured import create

    body = _body(schema, options)
    answer = create(
        told.connect(), path_of("topics", topic), body, f"Topic {topic}", or_update=or_update
    )
    _print(told, answer.body, answer.document(), answer.status)


@command.command("update")
@topic_argument()
@field_options(FIELDS)
@click.option("--schema", type=click.File("rb"), help="A file with a JSON Schema for data.")
@remote
def update_topic(told: Remote, topic: str, schema: IO[bytes] | None, **options: Any) -> None:
    """Change a topic's configuration; what is not named stays as it is.

    "none" as a value takes a limit away, or restores the default.
    """
    from broker.cli.configured import update

    body = _body(schema, options)
    answer = update(told.connect(), path_of("topics", topic), body, f"Topic {topic}")
    _print(told, answer.body, answer.document(), answer.status)


@command.command("delete")
@topic_argument()
@click.option("--force", is_flag=True, help="Delete its subscriptions too.")
@yes_option
@remote
def delete_topic(told: Remote, topic: str, force: bool, yes: bool) -> None:
    """Delete a topic with its messages; one that has subscriptions only with --force."""
    connection = told.connect()
    path = path_of("topics", topic)

    def question() -> str:
        shown = connection.get(path).document()
        what = f"Topic {topic} goes, with {counted(shown['message_count'], 'message')}"
        owed = shown["subscriptions"] if force else ()
        return f"{what} and the subscriptions {', '.join(owed)}." if owed else f"{what}."

    ask(question, yes=yes)
    try:
        connection.send("DELETE", path, query={"force": "true" if force else None})
    except Refusal as refusal:
        raise Refused(refusal.detail.replace("?force=true", "--force")) from None
    if not told.as_json:
        click.echo(f"Topic {topic} is deleted.")


def _body(schema: IO[bytes] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    body = body_of(FIELDS, options)
    if schema is not None:
        from broker.cli.fields import json_in

        body["schema"] = json_in(schema.read())
    return body


def _print(told: Remote, body: bytes, topic: Mapping[str, Any], status: int | None = None) -> None:
    if told.as_json:
        print_document(body)
        return
    from broker.cli.listing import print_fields
    from broker.cli.rendering import duration, flattened, said, size

    if status is not None:
        done = "created" if status == HTTPStatus.CREATED else "updated"
        click.echo(f"Topic {topic['name']} is {done}.")
        return
    shown = dict(flattened(topic))
    told_otherwise = {
        "bytes": size(topic["bytes"]),
        "first_sequence": str(topic["first_sequence"]),
        "last_sequence": str(topic["last_sequence"]),
        "dedup_window_s": duration(topic["dedup_window_s"]),
        "retention.max_age_s": duration(topic["retention"]["max_age_s"]),
    }
    print_fields((name, told_otherwise.get(name, said(value))) for name, value in shown.items())
