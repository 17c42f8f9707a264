"""Words that a shell completes, and how little that and the others load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.api import Api, good
from support.broker_process import BROKER, BrokerProcess
from support.command import clean_environment, run_broker


def completed(line: str, **settings: str) -> list[str]:
    """Complete the last word of a line, as bash asks for it."""
    words = line.split(" ")
    done = run_broker(
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        _BROKER_COMPLETE="bash_complete",
        **settings,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [each.partition(",")[2] for each in done.stdout.splitlines() if each]


def test_commands_and_options_are_completed() -> None:
    assert completed("broker me") == ["messages"]
    assert completed("broker topics ") == ["create", "delete", "list", "show", "update"]
    assert completed("broker tail t --af") == ["--after"]
    assert completed("broker subscriptions create t s --ordering ") == ["key", "topic", "none"]
    assert completed("broker deliveries list t s --state re") == ["retrying"]


def test_names_are_those_of_the_running_broker(broker: BrokerProcess, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "first"))
    good(api.put_subscription(topic, "second"))
    settings = {"BROKER_URL": broker.base_url}

    assert completed(f"broker topics show {topic[:-1]}", **settings).count(topic) == 1
    assert completed(f"broker seek {topic} ", **settings) == ["first", "second"]
    assert completed(f"broker dead-letters list {topic} se", **settings) == ["second"]
    assert completed(f"broker --url {broker.base_url} seek {topic} f") == ["first"]


def test_no_broker_completes_no_names() -> None:
    assert completed("broker topics show ", BROKER_URL="http://127.0.0.1:1") == []
    assert completed("broker seek no-such ", BROKER_URL="nonsense://") == []


def test_bash_completes_with_the_script(broker: BrokerProcess, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "only"))
    script = run_broker("completion", "bash").stdout
    ask = f"""{script}
COMP_WORDS=(broker seek {topic} o); COMP_CWORD=3
_broker_completion broker; echo "${{COMPREPLY[*]}}" """
    path = f"{BROKER.parent}{os.pathsep}{os.environ['PATH']}"

    done = subprocess.run(
        ["bash", "-c", ask],
        env=clean_environment({"BROKER_URL": broker.base_url, "PATH": path}),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "only\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_one_that_the_shell_reads(shell: str, tmp_path: Path) -> None:
    done = run_broker("completion", shell)

    assert (done.returncode, done.stderr) == (0, "")
    assert "_BROKER_COMPLETE" in done.stdout
    if shutil.which(shell) is not None:
        script = tmp_path / "script"
        script.write_text(done.stdout)
        subprocess.run([shell, "-n", script], check=True)


MODULES = """
import sys
from broker.cli import main
sys.argv = {arguments!r}
try:
    main()
except SystemExit:
    pass
print("loaded:", *sorted(sys.modules))
"""


def loaded(*arguments: str, **settings: str) -> set[str]:
    """Run a command, and name the modules that it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES.format(arguments=["broker", *arguments])],
        env=clean_environment(settings),
        cwd=BROKER.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_commands_load_what_they_need(broker: BrokerProcess) -> None:
    server = {"gunicorn", "flask", "broker.service", "broker.store.sqlite", "grpc"}
    client = {"urllib3", "rich", "broker.cli.connection"}

    assert not loaded("--help") & (server | {"urllib3", "rich"})
    assert not loaded("topics", "list", "--json", BROKER_URL=broker.base_url) & (server | {"rich"})
    assert not loaded("topics", "list", BROKER_URL=broker.base_url) & server
    # A setting that is wrong ends it when all that it needs is loaded.
    serving = loaded("serve", BROKER_PORT="no")
    assert "broker.cli.serve" in serving
    assert not serving & client
