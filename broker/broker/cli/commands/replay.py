"""`broker replay`: have dead letters sent again."""

import click

from broker.cli.arguments import SEQUENCE, subscription_argument, topic_argument
from broker.cli.asking import ask, yes_option
from broker.cli.connection import LONG_ANSWER_S, path_of
from broker.cli.documents import print_document
from broker.cli.progress import spinner
from broker.cli.remote import Remote, remote
from broker.cli.rendering import counted


@click.command("replay")
@topic_argument()
@subscription_argument()
@click.argument("sequences", metavar="[SEQUENCE]...", nargs=-1, type=SEQUENCE)
@click.option("--all", "everything", is_flag=True, help="All dead letters there are.")
@yes_option
@remote
def command(
    told: Remote,
    topic: str,
    subscription: str,
    sequences: tuple[int, ...],
    everything: bool,
    yes: bool,
) -> None:
    """Send dead letters again: those named, or --all."""
    if everything == bool(sequences):
        raise click.UsageError("Name the sequences to replay, or give --all.")
    connection = told.connect()
    path = path_of("topics", topic, "subscriptions", subscription)
    if everything:

        def question() -> str:
            count = connection.get(path).document()["dead_letters"]
            letters = counted(count, "dead letter")
            return f"Send {letters} of {topic}/{subscription} again."

        ask(question, yes=yes)
    body = {"all": True} if everything else {"sequences": sequences}
    with spinner("replaying"):
        answer = connection.send(
            "POST", f"{path}/dead-letters/replay", body, within_s=LONG_ANSWER_S
        )
    if told.as_json:
        print_document(answer.body)
        return
    count = answer.document()["replayed"]
    click.echo(f"Replayed: {counted(count, 'dead letter')} of {topic}/{subscription}.")
