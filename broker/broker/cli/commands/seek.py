"""`broker seek`: move a subscription in its topic's log."""

import click

from broker.cli.arguments import subscription_argument, topic_argument
from broker.cli.asking import ask, yes_option
from broker.cli.connection import LONG_ANSWER_S, path_of
from broker.cli.documents import print_document
from broker.cli.progress import spinner
from broker.cli.remote import Remote, remote
from broker.cli.rendering import counted


@click.command("seek")
@topic_argument()
@subscription_argument()
@click.argument("to")
@click.option("--dry-run", is_flag=True, help="Only say what it would be owed.")
@yes_option
@remote
def command(told: Remote, topic: str, subscription: str, to: str, dry_run: bool, yes: bool) -> None:
    """Move a subscription to a time or place in the log.

    What lies behind it is sent, again if need be. TO is beginning,
    now, a time (RFC 3339) or a sequence, which is the first to be sent.
    """
    connection = told.connect()
    path = path_of("topics", topic, "subscriptions", subscription)
    place = int(to) if to.isdecimal() else to

    def owed() -> int:
        body = {"to": place, "dry_run": True}
        found: int = connection.send("POST", f"{path}/seek", body).document()["backlog"]
        return found

    def question() -> str:
        before = connection.get(path).document()["backlog"]
        return (
            f"{topic}/{subscription} has a backlog of {counted(before, 'message')}. "
            f"Moved to {to}, it has one of {owed():,}."
        )

    if not dry_run:
        ask(question, yes=yes)
    with spinner("seeking"):
        answer = connection.send(
            "POST", f"{path}/seek", {"to": place, "dry_run": dry_run}, within_s=LONG_ANSWER_S
        )
    if told.as_json:
        print_document(answer.body)
        return
    would = "would have" if dry_run else "now has"
    backlog = answer.document()["backlog"]
    click.echo(f"{topic}/{subscription} {would} a backlog of {counted(backlog, 'message')}.")
