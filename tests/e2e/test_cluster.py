"""compose.cluster.yml: brokers on JetStream that share the work, of which one may go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import docker
import httpx
import pytest
from docker.models.containers import Container

from e2e.compose_stack import ComposeStack
from e2e.shop import Shop
from support.eventually import eventually

pytestmark = pytest.mark.timeout(600)

FILES = ("docker-compose.yml", "compose.cluster.yml")
TAKEN_OVER_S = 60.0


@pytest.fixture
def cluster(engine: docker.DockerClient) -> Iterator[ComposeStack]:
    """The stack with three NATS servers and two brokers, these at any free ports."""
    stack = ComposeStack(engine, FILES, BROKERS="2", BROKER_PORTS="", BROKER_GRPC_PORTS="")
    try:
        stack.build()
        stack.start()
        yield stack
    finally:
        for container in (*stack.containers("broker"), *stack.containers("nats-1")):
            print(f"--- {container.name}\n{container.logs()[-5000:].decode(errors='replace')}")
        stack.close()


def status_of(container: Container) -> str | None:
    """Return what a broker says of itself: `ready` or `standby`."""
    container.reload()
    published = container.ports.get("8080/tcp")
    if not published:
        return None
    try:
        url = f"http://127.0.0.1:{published[0]['HostPort']}/readyz"
        answer = httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return None
    return str(answer.json().get("status")) if answer.status_code == 200 else None


def all_work(brokers: Sequence[Container]) -> bool:
    """Say whether each broker owns some cells."""
    return all(status_of(each) == "ready" for each in brokers)


def test_services_go_on_when_a_broker_and_a_server_are_gone(cluster: ComposeStack) -> None:
    with closing(Shop(cluster)) as shop:
        shop.await_story(shop.place()["id"])

        brokers = cluster.containers("broker")
        eventually(lambda: all_work(brokers), within_s=TAKEN_OVER_S)
        first, *_ = brokers
        first.kill()
        shop.await_story(shop.place()["id"])
        (server,) = cluster.containers("nats-1")
        server.kill()
        first.start()
        shop.await_story(shop.place()["id"])

        eventually(lambda: all_work(brokers), within_s=TAKEN_OVER_S)
