"""`broker completion`: have a shell complete commands, topics and subscriptions."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that has a shell complete words.

    It completes commands, options, and names of topics and subscriptions in the running broker.

    \b
    bash: eval "$(broker completion bash)" in ~/.bashrc
    zsh:  eval "$(broker completion zsh)" in ~/.zshrc
    fish: broker completion fish > ~/.config/fish/completions/broker.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    click.echo(kind(context.find_root().command, {}, "broker", "_BROKER_COMPLETE").source())
