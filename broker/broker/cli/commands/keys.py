"""`broker keys`: who may do what."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import IO, Any

import click

from broker.cli.arguments import NULL, Name, OrNone, key_argument
from broker.cli.asking import ask, yes_option
from broker.cli.connection import path_of
from broker.cli.documents import print_document
from broker.cli.remote import Remote, remote


@click.group("keys")
def command() -> None:
    """List, show, create, update, delete API keys."""


@command.command("list")
@remote
def list_keys(told: Remote) -> None:
    """List the keys, without the keys themselves."""
    answer = told.connect().get(path_of("keys"))
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.listing import Column, Listing
    from broker.cli.rendering import moment, printable

    keys = answer.document()["keys"]
    listing = Listing(
        (
            Column("id"),
            Column("name", 12, shrinks=True),
            Column("scopes", 12, shrinks=True, rank=1),
            Column("created", 24, rank=3),
            Column("last used", 24, rank=2),
            Column("rate", 9, rank=4),
        )
    )
    listing.add(
        [
            (
                each["id"],
                printable(each["name"]),
                ", ".join(each["scopes"]),
                moment(each["created_at"]),
                moment(each["last_used_at"]),
                _rate(each["publish_rate"]),
            )
            for each in keys
        ]
    )
    if not keys:
        click.echo("There are no keys.", err=True)


@command.command("show")
@key_argument()
@remote
def show_key(told: Remote, id_: str) -> None:
    """Show what a key allows, and when it was used last."""
    answer = told.connect().get(path_of("keys", id_))
    if told.as_json:
        print_document(answer.body)
        return
    from broker.cli.listing import print_fields
    from broker.cli.rendering import moment, said

    times = {"created_at", "last_used_at"}
    print_fields(
        (name, moment(value) if name in times else said(value))
        for name, value in answer.document().items()
    )


@command.command("create")
@click.argument("name", type=Name())
@click.argument("scopes", metavar="SCOPE...", nargs=-1, required=True)
@click.option(
    "--publish-rate",
    type=OrNone(click.FLOAT),
    help="Messages a second that it may publish; none: no limit.",
)
@click.option(
    "--key-file",
    type=click.File("rb"),
    help="Where one of your own is; - is the standard input. Made if you bring none.",
)
@remote
def create_key(
    told: Remote,
    name: str,
    scopes: tuple[str, ...],
    publish_rate: Any,
    key_file: IO[bytes] | None,
) -> None:
    """Create a key, and print it; it is shown this once.

    SCOPE is admin, or publish:TOPIC, subscribe:TOPIC or read:TOPIC; TOPIC may end in a * for all
    that begin so, or be a * alone. A key of your own is not printed, and bringing the same again
    changes nothing.
    """
    body: dict[str, Any] = {"name": name, "scopes": list(scopes)}
    if publish_rate is not None:
        body["publish_rate"] = None if publish_rate is NULL else publish_rate
    if key_file is not None:
        body["key"] = _key_in(key_file)
    answer = told.connect().send("POST", path_of("keys"), body)
    if told.as_json:
        print_document(answer.body)
        return
    made = answer.document()
    told_of = f"Key {name} is created, with the id {made['id']}."
    if answer.status != HTTPStatus.CREATED:
        click.echo(f"Key {name} is there already, with the id {made['id']}; nothing was changed.")
    elif key_file is not None:
        click.echo(told_of)
    else:
        click.echo(made["key"])
        click.echo(f"{told_of} Keep it: it is shown this once.", err=True)


@command.command("update")
@key_argument()
@click.option(
    "--publish-rate",
    type=OrNone(click.FLOAT),
    required=True,
    help="Messages a second that it may publish; none: no limit.",
)
@remote
def update_key(told: Remote, id_: str, publish_rate: Any) -> None:
    """Change how much a key may publish, from now on."""
    body = {"publish_rate": None if publish_rate is NULL else publish_rate}
    answer = told.connect().send("PUT", path_of("keys", id_), body)
    if told.as_json:
        print_document(answer.body)
        return
    click.echo(f"Key {answer.document()['name']} is updated.")


@command.command("delete")
@key_argument()
@yes_option
@remote
def delete_key(told: Remote, id_: str, yes: bool) -> None:
    """Revoke a key: from now on it opens nothing."""
    connection = told.connect()
    path = path_of("keys", id_)
    ask(lambda: _question(connection.get(path).document()), yes=yes)
    connection.send("DELETE", path)
    if not told.as_json:
        click.echo(f"Key {id_} is deleted.")


def _question(key: Mapping[str, Any]) -> str:
    from broker.cli.rendering import moment

    used = key["last_used_at"]
    last = "was never used" if used is None else f"was last used at {moment(used)}"
    return f"Whoever has key {key['name']} is shut out; it {last}."


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:g}/s"


def _key_in(file: IO[bytes]) -> str:
    try:
        return file.read().decode().strip()
    except UnicodeDecodeError:
        raise click.UsageError("The file has no key: it is not text.") from None
