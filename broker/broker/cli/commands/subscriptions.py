"""`broker subscriptions`: who is sent a topic's messages, and how far they are."""

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import click

from broker.cli.arguments import Command, Duration, pairs, subscription_argument, topic_argument
from broker.cli.asking import ask, yes_option
from broker.cli.connection import Connection, path_of
from broker.cli.documents import print_document, print_line
from broker.cli.fields import Field, body_of, field_options
from broker.cli.remote import Remote, remote
from broker.cli.rendering import counted

TEXT, DURATION = click.STRING, Duration()
FIELDS = (
    Field("--endpoint", "endpoint", TEXT, "The webhook's URL; none: messages are pulled."),
    Field(
        "--guarantee",
        "guarantee",
        TEXT,
        "What is promised.",
        ("at-least-once", "at-most-once", "exactly-once"),
    ),
    Field("--ordering", "ordering", TEXT, "What keeps its order.", ("key", "topic", "none")),
    Field("--format", "format", TEXT, "How requests look.", ("binary", "structured", "batch")),
    Field("--max-batch", "max_batch", click.INT, "Events in a request of the format batch."),
    Field("--max-in-flight", "max_in_flight", click.INT, "Requests at once."),
    Field("--rate-limit", "rate_limit", click.FLOAT, "Deliveries a second."),
    Field("--timeout", "timeout_s", DURATION, "How long an attempt may take."),
    Field("--max-attempts", "retry.max_attempts", click.INT, "Attempts; 0: for ever."),
    Field("--min-backoff", "retry.min_backoff_s", DURATION, "From the first attempt to the next."),
    Field("--max-backoff", "retry.max_backoff_s", DURATION, "The most between two attempts."),
    Field(
        "--when-exhausted",
        "when_exhausted",
        TEXT,
        "What follows the last attempt.",
        ("dead-letter", "block"),
    ),
    Field(
        "--consent",
        "consent",
        TEXT,
        "Is the endpoint asked before it is sent to?",
        ("off", "if-supported", "required"),
    ),
    Field("--ack-deadline", "ack_deadline_s", DURATION, "How long a pulled message is leased."),
    Field("--max-backlog-age", "max_backlog_age_s", DURATION, "Then an owed message is given up."),
    Field("--dead-letter-retention", "dead_letter_retention_s", DURATION, "Then it is removed."),
    Field("--secret", "secret", TEXT, "What signs requests, whsec_…; made if you bring none."),
)


@click.group("subscriptions")
def command() -> None:
    """List, create, update, delete, pause subscriptions."""


@command.command("list")
@topic_argument(required=False)
@remote
def list_subscriptions(told: Remote, topic: str | None) -> None:
    """List a topic's subscriptions, those of all topics without one.

    For programs the latter are lines of JSON, one a subscription.
    """
    connection = told.connect()
    if topic is not None:
        answer = connection.get(path_of("topics", topic, "subscriptions"))
        if told.as_json:
            print_document(answer.body)
            return
        found = answer.document()["subscriptions"]
    else:
        found = list(_everywhere(connection))
        if told.as_json:
            for each in found:
                print_line(json.dumps(each).encode())
            return
    _print_list(found, with_topic=topic is None)
    if not found:
        click.echo("There are no subscriptions.", err=True)


def _everywhere(connection: Connection) -> Iterator[Mapping[str, Any]]:
    for topic in connection.get(path_of("topics")).document()["topics"]:
        if topic["subscriptions"]:
            answer = connection.get(path_of("topics", topic["name"], "subscriptions"))
            yield from answer.document()["subscriptions"]


def _print_list(found: list[Mapping[str, Any]], *, with_topic: bool) -> None:
    from broker.cli.listing import Column, Listing
    from broker.cli.rendering import NOTHING, duration, printable, state, trouble

    columns = [
        Column("name", 12, shrinks=True),
        Column("state", rank=1),
        Column("backlog", right=True, rank=2),
        Column("oldest", right=True, rank=5),
        Column("in flight", right=True, rank=7),
        Column("retrying", right=True, rank=6),
        Column("dead", right=True, rank=3),
        Column("endpoint", 16, shrinks=True, rank=8),
        Column("last error", 16, shrinks=True, rank=4),
    ]
    if with_topic:
        columns.insert(0, Column("topic", 8, shrinks=True))
    listing = Listing(columns)
    rows = []
    for each in found:
        row = [
            each["name"],
            state(each["state"]),
            f"{each['backlog']:,}",
            duration(each["oldest_unsettled_s"]),
            f"{each['in_flight']:,}",
            f"{each['retrying']:,}",
            trouble(each["dead_letters"]),
            printable(each["endpoint"] or "(pull)"),
            printable(each["last_error"] or NOTHING),
        ]
        rows.append([each["topic"], *row] if with_topic else row)
    listing.add(rows)


@command.command("show")
@topic_argument()
@subscription_argument()
@remote
def show_subscription(told: Remote, topic: str, subscription: str) -> None:
    """Show a subscription: how it is configured, and how far it is."""
    answer = told.connect().get(_path(topic, subscription))
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.listing import print_fields
    from broker.cli.rendering import duration, flattened, said, state, trouble

    shown = answer.document()
    told_otherwise = {
        "state": state(shown["state"]),
        "dead_letters": trouble(shown["dead_letters"]),
        "blocked_keys": trouble(shown["blocked_keys"]),
    }
    print_fields(
        (
            name,
            told_otherwise.get(name)
            or (duration(value) if name.endswith("_s") and value is not None else said(value)),
        )
        for name, value in flattened(shown)
    )


def _more_fields(function: Command) -> Command:
    for option in (
        click.option("--sql", multiple=True, help="Only what this expression (CESQL) is true of."),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            metavar="JSON",
            help="Only what this filter wants; all of several must.",
        ),
        click.option(
            "--header",
            "headers",
            multiple=True,
            metavar="NAME:VALUE",
            help="Add this to requests; replaces those there are.",
        ),
        click.option(
            "--allow-later/--forbid-later",
            "allow_later",
            default=None,
            help="May the endpoint answer later?",
        ),
    ):
        function = option(function)
    return function


@command.command("create")
@topic_argument()
@subscription_argument()
@field_options(FIELDS)
@_more_fields
@click.option(
    "--start",
    metavar="now|beginning|TIME|SEQUENCE",
    help="The first message that it is owed; now if not given.",
)
@click.option("--or-update", is_flag=True, help="Update it if it is there.")
@remote
def create_subscription(
    told: Remote,
    topic: str,
    subscription: str,
    start: str | None,
    or_update: bool,
    **options: Any,
) -> None:
    """Create a subscription, with an --endpoint or to be pulled from.

    "none" as a value takes a limit away, or restores the default.
    """
    from broker.cli.configured import create

    body = _body(options)
    if start is not None:
        body["start"] = int(start) if start.isdecimal() else start
    answer = create(
        told.connect(),
        _path(topic, subscription),
        body,
        f"Subscription {topic}/{subscription}",
        or_update=or_update,
    )
    _say(told, answer.body, answer.document(), answer.status)


@command.command("update")
@topic_argument()
@subscription_argument()
@field_options(FIELDS)
@_more_fields
@remote
def update_subscription(told: Remote, topic: str, subscription: str, **options: Any) -> None:
    """Change a subscription's configuration; what is not named stays as it is.

    "none" as a value takes a limit away, or restores the default.
    """
    from broker.cli.configured import update

    answer = update(
        told.connect(),
        _path(topic, subscription),
        _body(options),
        f"Subscription {topic}/{subscription}",
    )
    _say(told, answer.body, answer.document(), answer.status)


@command.command("delete")
@topic_argument()
@subscription_argument()
@yes_option
@remote
def delete_subscription(told: Remote, topic: str, subscription: str, yes: bool) -> None:
    """Delete a subscription, with what it is owed and its dead letters."""
    connection = told.connect()
    path = _path(topic, subscription)

    def question() -> str:
        shown = connection.get(path).document()
        return (
            f"Subscription {topic}/{subscription} goes, with a backlog of "
            f"{counted(shown['backlog'], 'message')} and "
            f"{counted(shown['dead_letters'], 'dead letter')}."
        )

    ask(question, yes=yes)
    connection.send("DELETE", path)
    if not told.as_json:
        click.echo(f"Subscription {topic}/{subscription} is deleted.")


@command.command("pause")
@topic_argument()
@subscription_argument()
@remote
def pause(told: Remote, topic: str, subscription: str) -> None:
    """Have a subscription's messages wait."""
    _act(told, topic, subscription, "pause", "is paused")


@command.command("resume")
@topic_argument()
@subscription_argument()
@remote
def resume(told: Remote, topic: str, subscription: str) -> None:
    """Let a paused subscription go on."""
    _act(told, topic, subscription, "resume", "goes on")


@command.command("rotate-secret")
@topic_argument()
@subscription_argument()
@click.option("--secret", metavar="whsec_…", help="The new one; made if you bring none.")
@click.option("--overlap", type=DURATION, help="How long the old one signs too; a day.")
@remote
def rotate_secret(
    told: Remote, topic: str, subscription: str, secret: str | None, overlap: float | None
) -> None:
    """Give a subscription a new secret; the one before signs as well for a while."""
    body = {"secret": secret, "overlap_s": overlap}
    answer = told.connect().send("POST", _path(topic, subscription) + "/rotate-secret", body)
    if told.as_json:
        print_document(answer.body)
        return
    click.echo(answer.document()["secret"])
    click.echo("Keep it: it is shown this once.", err=True)


def _act(told: Remote, topic: str, subscription: str, action: str, done: str) -> None:
    answer = told.connect().send("POST", f"{_path(topic, subscription)}/{action}")
    if told.as_json:
        print_document(answer.body)
    else:
        click.echo(f"Subscription {topic}/{subscription} {done}.")


def _body(options: Mapping[str, Any]) -> dict[str, Any]:
    from broker.cli.fields import json_in

    body = body_of(FIELDS, options)
    if options["allow_later"] is not None:
        body["allow_later"] = options["allow_later"]
    if options["headers"]:
        body["headers"] = pairs(options["headers"], ":", "--header")
    filters = [json_in(text.encode()) for text in options["filters"]]
    filters += [{"sql": text} for text in options["sql"]]
    if filters:
        body["filters"] = filters
    return body


def _say(told: Remote, body: bytes, subscription: Mapping[str, Any], status: int) -> None:
    if told.as_json:
        print_document(body)
        return
    name = f"{subscription['topic']}/{subscription['name']}"
    if status == HTTPStatus.CREATED:
        click.echo(f"Subscription {name} is created.")
        if subscription["endpoint"] is not None:
            click.echo(f"Its secret, shown this once: {subscription['secret']}")
    else:
        click.echo(f"Subscription {name} is updated.")


def _path(topic: str, subscription: str) -> str:
    return path_of("topics", topic, "subscriptions", subscription)
