"""compose.keys.yml: keys are on, and each service holds what it needs and no more."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import docker
import httpx
import pytest

from e2e.compose_stack import ComposeStack
from e2e.shop import Shop
from e2e.stack import Service

pytestmark = pytest.mark.timeout(600)

NAMES = ("admin", "encryption", "order", "shipping", "notification")
FILES = ("docker-compose.yml", "compose.keys.yml")
SUBSCRIBER = "/v1/topics/{}/subscriptions/other"


@pytest.fixture(scope="module")
def keys() -> Mapping[str, str]:
    """A key for each who has one."""
    return {name: secrets.token_urlsafe(32) for name in NAMES}


@pytest.fixture(scope="module")
def guarded(
    engine: docker.DockerClient,
    keys: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComposeStack]:
    """The stack with those keys in its secrets."""
    folder: Path = tmp_path_factory.mktemp("secrets")
    for name, key in keys.items():
        (folder / f"{name}_key").write_text(f"{key}\n")
    stack = ComposeStack(engine, FILES, SECRETS_DIR=str(folder))
    try:
        stack.build()
        stack.start()
        yield stack
    finally:
        for service in Service:
            print(f"--- {service}\n{stack.logs(service)[-5000:]}")
        stack.close()


def test_services_do_their_work(guarded: ComposeStack) -> None:
    with closing(Shop(guarded)) as shop:
        order = shop.place()
        shop.await_story(order["id"])


def test_secrets_are_encrypted(guarded: ComposeStack) -> None:
    log = guarded.logs(Service.BROKER)
    assert "secrets_encrypted" in log
    assert "not_encrypted" not in log


@pytest.mark.parametrize(
    ("holder", "method", "path", "allowed"),
    [
        (None, "GET", "/v1/topics", 401),
        ("order", "POST", "/v1/topics/order/messages", 201),
        ("order", "POST", "/v1/topics/shipment/messages", 403),
        ("order", "PUT", SUBSCRIBER.format("order"), 403),
        ("shipping", "POST", "/v1/topics/shipment/messages", 201),
        ("shipping", "POST", "/v1/topics/order/messages", 403),
        ("shipping", "PUT", SUBSCRIBER.format("order"), 201),
        ("shipping", "PUT", SUBSCRIBER.format("shipment"), 403),
        ("notification", "POST", "/v1/topics/order/messages", 403),
        ("notification", "PUT", SUBSCRIBER.format("shipment"), 201),
        ("notification", "GET", "/v1/keys", 403),
        ("admin", "GET", "/v1/keys", 200),
    ],
)
def test_each_holds_what_it_needs_and_no_more(
    guarded: ComposeStack,
    keys: Mapping[str, str],
    holder: str | None,
    method: str,
    path: str,
    allowed: int,
) -> None:
    headers = {} if holder is None else {"authorization": f"Bearer {keys[holder]}"}
    answer = httpx.request(
        method,
        f"{guarded.urls[Service.BROKER]}{path}",
        headers=headers,
        json=None if method == "GET" else {},
        trust_env=False,
    )
    assert answer.status_code == allowed, answer.text


def test_no_key_is_in_the_environment_or_the_log(
    guarded: ComposeStack, keys: Mapping[str, str]
) -> None:
    for service in Service:
        environment = "\n".join(guarded.container(service).attrs["Config"]["Env"])
        for key in keys.values():
            assert key not in environment
            assert key not in guarded.logs(service)
