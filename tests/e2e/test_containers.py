"""What the containers may and may not do."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import httpx
import pytest

from e2e.compose_stack import ComposeStack
from e2e.shop import Shop
from e2e.stack import Service
from support.doors import RpcDoor
from support.eventually import eventually

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.parametrize("running_stack", ["compose"], indirect=True),
]
every_service = pytest.mark.parametrize("service", list(Service))

COMPILERS = ("cc", "gcc", "g++", "clang", "ld", "make", "rustc")


def run(stack: ComposeStack, service: Service, *command: str) -> tuple[int, str]:
    """Run a command in a service's container; give its exit code and output."""
    code, output = stack.container(service).exec_run(list(command))
    return int(code), output.decode()


@every_service
def test_container_is_healthy(stack: ComposeStack, service: Service) -> None:
    assert stack.container(service).attrs["State"]["Health"]["Status"] == "healthy"


@every_service
def test_container_runs_as_nobody_special(stack: ComposeStack, service: Service) -> None:
    code, output = run(stack, service, "cat", "/proc/1/status")
    status = dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)

    assert code == 0
    assert set(status["Uid"].split()) == {"10001"}
    assert set(status["Gid"].split()) == {"10001"}
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0, capabilities
    assert status["NoNewPrivs"] == "1"


@every_service
def test_container_writes_to_its_data_and_nowhere_else(
    stack: ComposeStack, service: Service
) -> None:
    host = stack.container(service).attrs["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False

    for folder, refused in (("/data", False), ("/tmp", False), ("/opt/venv", True), ("/", True)):
        code, output = run(stack, service, "sh", "-c", f"touch {folder}/it && rm {folder}/it")
        assert (code != 0) is refused, f"{folder}: {output}"


@every_service
def test_container_keeps_its_data_in_a_named_volume(stack: ComposeStack, service: Service) -> None:
    (mount,) = [
        mount
        for mount in stack.container(service).attrs["Mounts"]
        if mount["Destination"] == "/data"
    ]
    assert mount["Type"] == "volume"
    assert mount["Name"].endswith("-data")


@every_service
def test_container_listens_for_this_machine_only(stack: ComposeStack, service: Service) -> None:
    published = [
        address
        for addresses in stack.container(service).attrs["NetworkSettings"]["Ports"].values()
        for address in addresses or []
    ]
    assert {address["HostIp"] for address in published} == {"127.0.0.1"}
    ports = {stack.urls[service].split(":")[-1]}
    if service is Service.BROKER:
        ports.add(str(stack.grpc_port))
    assert {address["HostPort"] for address in published} == ports


@every_service
def test_image_has_no_compiler(stack: ComposeStack, service: Service) -> None:
    code, _ = run(stack, service, "sh", "-c", "command -v sh")
    assert code == 0, "the look itself fails"
    for compiler in COMPILERS:
        code, output = run(stack, service, "sh", "-c", f"command -v {compiler}")
        assert code != 0, output


def test_followed_log_shows_a_notification_as_it_is_told(
    stack: ComposeStack, shop: Shop, tmp_path: Path
) -> None:
    output = tmp_path / "followed.log"
    with stack.following(Service.NOTIFICATIONS, output):
        order_id = shop.place()["id"]
        eventually(lambda: f"Order {order_id} " in output.read_text(errors="replace"))


def test_broker_answers_grpc(stack: ComposeStack) -> None:
    with closing(RpcDoor(stack.grpc_port)) as door:
        (told,) = door.publish("over-grpc", {"id": "a"})

    assert told == {"id": "a", "sequence": 1, "duplicate": False}


def test_broker_describes_itself(stack: ComposeStack) -> None:
    with httpx.Client(base_url=stack.urls[Service.BROKER], trust_env=False) as http:
        assert http.get("/openapi.json").json()["openapi"].startswith("3.1")
        assert "broker_info" in http.get("/metrics").text


def test_broker_is_asked_from_within_its_container(stack: ComposeStack, shop: Shop) -> None:
    shop.place()

    def listed() -> bool:
        code, table = run(stack, Service.BROKER, "broker", "messages", "list", "order")
        assert code == 0, table
        return "order.created" in table

    eventually(listed)
