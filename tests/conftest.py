"""Fixtures that all tests share. Nothing starts before a test asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

pytest.register_assert_rewrite("support", "e2e")

from support.api import Api  # noqa: E402  (after the rewrite hook)
from support.broker_process import BrokerProcess, StartBroker  # noqa: E402
from support.endpoint import Endpoint  # noqa: E402

if TYPE_CHECKING:
    from support.workload import Workload

# A shell's background jobs ignore an interrupt, and whatever they start would do so too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Real processes answer in their own time: no deadline an example, and no complaint about it.
settings.register_profile(
    "default",
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("default")

# Hypothesis takes up to five minutes to make an example that fails smaller: a test that is ended
# before does not say what it has found.
SHRUNK_S = 600

_serial = count(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Workload:
    """Share the tests out among the workers of `-n`."""
    from support.workload import Workload

    return Workload(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test that has found something the time to say what."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)) and not item.get_closest_marker(
            "timeout"
        ):
            item.add_marker(pytest.mark.timeout(SHRUNK_S))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A webhook endpoint that answers 200 until its `script` is replaced."""
    with Endpoint() as running:
        yield running
    assert running.faults == [], "the endpoint itself failed"


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with the test defaults that all tests share; nobody stops or restarts it."""
    running = BrokerProcess(tmp_path_factory.mktemp("broker"))
    try:
        yield running.start()
    finally:
        running.close()
        print(running.log()[-20_000:])
    assert "worker_failed" not in running.log(), "its worker ended, and another took over"


@pytest.fixture
def api(broker: BrokerProcess) -> Api:
    """A client of the shared broker."""
    return broker.api


@pytest.fixture
def topic(broker: BrokerProcess) -> Iterator[str]:
    """The name of a topic nobody else uses; removed with its subscriptions afterwards."""
    name = f"topic-{next(_serial)}"
    yield name
    broker.api.delete_topic(name, force=True)


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[StartBroker]:
    """Start a broker of the test's own, with settings: `start_broker(BROKER_PORT="80")`."""
    started: list[BrokerProcess] = []

    def start(**settings: str | None) -> BrokerProcess:
        folder = tmp_path / f"broker-{len(started)}"
        folder.mkdir()
        started.append(BrokerProcess(folder, **settings))
        return started[-1].start()

    yield start
    for process in started:
        process.close()
        print(process.log()[-20_000:])
