"""Fixtures of the black-box tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.broker_process import BrokerProcess
from support.endpoint import Endpoint
from support.witness import Witness


@pytest.fixture(scope="session")
def _restartable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    running = BrokerProcess(tmp_path_factory.mktemp("restartable"))
    yield running
    running.close()


@pytest.fixture
def restartable(_restartable: BrokerProcess) -> Iterator[BrokerProcess]:
    """A broker with the test defaults that a test may stop, kill and start again.

    Its topics are removed afterwards.
    """
    if not _restartable.running():
        _restartable.start()
    before = len(_restartable.log())
    yield _restartable
    print(_restartable.log()[before:][-20_000:])
    if not _restartable.running():
        _restartable.start()
    for topic in _restartable.api.http.get("/v1/topics").json()["topics"]:
        _restartable.api.delete_topic(topic["name"], force=True)


@pytest.fixture
def other_endpoint() -> Iterator[Endpoint]:
    """A second webhook endpoint, as the first one is."""
    with Endpoint() as running:
        yield running
    assert running.faults == [], "the endpoint itself failed"


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Somebody who sees other messages go by while nothing should happen."""
    with Witness() as running:
        yield running
