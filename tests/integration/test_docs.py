"""The examples of the documentation work as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from broker.cli import program
from support.broker_process import BROKER, BrokerProcess
from support.command import clean_environment

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("http.md", "command-line.md", "filters.md", "pull.md", "stream.md", "grpc.md")
LANGUAGES = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker with nothing in it."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with closing(BrokerProcess(folder).start()) as running:
        yield running


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_a_page_run_in_their_order(
    own: BrokerProcess, tmp_path: Path, page: str
) -> None:
    text = (DOCS / page).read_text()
    examples = re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert examples
    path = f"{BROKER.parent}{os.pathsep}{os.environ['PATH']}"  # for what calls `broker`

    for language, example in examples:
        code = example.replace("localhost:8080", f"127.0.0.1:{own.port}").replace(
            "localhost:50051", f"127.0.0.1:{own.grpc_port}"
        )
        ran = subprocess.run(
            [*LANGUAGES[language], code],
            cwd=tmp_path,
            env=clean_environment({"BROKER_URL": own.base_url, "PATH": path}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, f"{example}\n{ran.stdout}\n{ran.stderr}"
        assert "unknown" not in ran.stdout
        assert "lapsed" not in ran.stdout


def test_every_command_is_described() -> None:
    page = " ".join((DOCS / "command-line.md").read_text().split())

    for command in commands(program, ""):
        assert re.search(rf"(broker |`){command}\b", page), command


def commands(group: click.Group, before: str) -> Iterator[str]:
    """Name every command below a group."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name
