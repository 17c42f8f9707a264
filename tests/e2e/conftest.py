"""The running stack, once as plain processes and once as containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import docker
import pytest

from e2e.compose_stack import ComposeStack, NoEngine, connect
from e2e.process_stack import ProcessStack
from e2e.shop import Shop
from e2e.stack import Service, Stack

SHOWN_LOG = 10_000


@pytest.fixture(scope="session", params=["processes", "compose"])
def running_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack that all tests of a kind share; only one of the two runs at a time."""
    opener = open_processes if request.param == "processes" else open_compose
    yield from opener(request)


@pytest.fixture
def stack(running_stack: Stack) -> Iterator[Stack]:
    """The running stack; a failure shows the end of what its services print."""
    yield running_stack
    for service in Service:
        print(f"--- {service}\n{running_stack.logs(service)[-SHOWN_LOG:]}")


@pytest.fixture
def shop(stack: Stack) -> Iterator[Shop]:
    """The shop that the stack is."""
    opened = Shop(stack)
    yield opened
    opened.close()


def open_processes(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Run the commands of the Procfile."""
    folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    yield from running(ProcessStack(folders.mktemp("stack")))


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """Reach the Docker engine; a laptop without one skips, CI fails."""
    try:
        reached = connect()
    except NoEngine as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with closing(reached):
        yield reached


def open_compose(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Build the images and run them."""
    stack = ComposeStack(request.getfixturevalue("engine"))
    stack.build()
    yield from running(stack)


def running(stack: Stack) -> Iterator[Stack]:
    """Run a stack, and leave nothing of it."""
    try:
        stack.start()
        with closing(Shop(stack)) as shop:
            shop.retry_soon()
        yield stack
    finally:
        stack.close()
