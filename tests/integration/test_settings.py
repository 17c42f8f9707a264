"""Settings: a wrong value stops the start and says which, what it was, and what is allowed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.broker_process import BROKER, BrokerProcess, StartBroker
from support.problem import read_problem

# variable, wrong value, words of which one must tell what is allowed
WRONG: list[tuple[str, str, tuple[str, ...]]] = [
    ("BROKER_STORE", "mysql://db/x", ("sqlite",)),
    ("BROKER_STORE", "broker.db", ("sqlite",)),
    ("BROKER_STORE", "sqlite://", ("sqlite:///", "path")),
    ("BROKER_PORT", "http", ("65535", "number", "integer")),
    ("BROKER_PORT", "70000", ("65535",)),
    ("BROKER_PORT", "-1", ("65535",)),
    ("BROKER_PORT", "80.5", ("65535", "number", "integer")),
    ("BROKER_GRPC_PORT", "grpc", ("65535", "number", "integer")),
    ("BROKER_GRPC_PORT", "99999", ("65535",)),
    ("BROKER_PUBLIC_URL", "no url", ("http",)),
    ("BROKER_PUBLIC_URL", "ftp://broker.example", ("http",)),
    ("BROKER_LOG_LEVEL", "loud", ("debug", "warning")),
    ("BROKER_LOG_FORMAT", "xml", ("json",)),
    ("BROKER_API_KEYS", "maybe", ("on",)),
    ("BROKER_ALLOWED_TARGETS", "10.0.0.0/99", ("cidr", "network", "address", "host")),
    ("BROKER_ALLOWED_TARGETS", "a b", ("cidr", "network", "address", "host")),
    ("BROKER_ALLOWED_HOSTS", "https://a.example", ("names",)),
    ("BROKER_CA_FILE", "/nowhere/ca.pem", ("pem",)),
    ("BROKER_CLIENT_CERT_FILE", "/nowhere/broker.crt", ("pem",)),
    ("BROKER_CLIENT_KEY_FILE", "/nowhere/broker.key", ("pem",)),
    ("BROKER_AUTO_CREATE_TOPICS", "perhaps", ("true", "false")),
    ("BROKER_MAX_MESSAGE_BYTES", "big", ("number", "integer", "bytes")),
    ("BROKER_MAX_MESSAGE_BYTES", "0", ("1", "positive", "least")),
    ("BROKER_MAX_MESSAGE_BYTES", "-5", ("1", "positive", "least")),
    ("BROKER_MAX_BATCH_BYTES", "1e6", ("number", "integer", "bytes")),
    ("BROKER_MAX_BATCH_BYTES", "0", ("1", "positive", "least")),
    ("BROKER_MIN_FREE_BYTES", "lots", ("number", "integer", "bytes")),
    ("BROKER_MIN_FREE_BYTES", "-1", ("0", "positive", "least")),
    ("BROKER_DRAIN_S", "soon", ("number", "second")),
    ("BROKER_DRAIN_S", "-1", ("0", "positive", "least")),
    ("BROKER_DRAIN_S", "nan", ("number", "second")),
    ("BROKER_COURIERS", "0", ("32", "number", "integer")),
]


@pytest.mark.parametrize(("variable", "value", "hints"), WRONG)
def test_wrong_setting_stops_the_start_and_tells_what_is_allowed(
    tmp_path: Path, variable: str, value: str, hints: tuple[str, ...]
) -> None:
    broker = BrokerProcess(tmp_path, **{variable: value})
    try:
        broker.launch()
        code = broker.wait()
    finally:
        broker.close()

    text = broker.log()
    assert code != 0
    assert variable in text
    assert value in text
    rest = text.replace(variable, "").replace(value, "").lower()
    assert any(hint in rest for hint in hints), text
    assert "Traceback" not in text


def test_wrong_setting_makes_no_store(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path, BROKER_LOG_FORMAT="xml")
    try:
        broker.launch()
        broker.wait()
    finally:
        broker.close()

    assert [path.name for path in tmp_path.iterdir()] == ["broker.log"]


@pytest.mark.parametrize(
    "settings",
    [
        {"BROKER_LOG_LEVEL": "debug", "BROKER_LOG_FORMAT": "text"},
        {
            "BROKER_LOG_LEVEL": "warning",
            "BROKER_LOG_FORMAT": "json",
            "BROKER_PUBLIC_URL": "https://broker.example",
            "BROKER_MIN_FREE_BYTES": "1000000",
            "BROKER_DRAIN_S": "2.5",
            "BROKER_ALLOWED_TARGETS": "10.0.0.0/8, 192.168.1.7,fd00::/8 ,shop.example",
            "BROKER_AUTO_CREATE_TOPICS": "true",
            "BROKER_API_KEYS": "off",
        },
    ],
    ids=["text", "json"],
)
def test_allowed_settings_start(start_broker: StartBroker, settings: dict[str, str]) -> None:
    broker = start_broker(**settings)

    assert broker.api.ok_publish("t", 1) > 0


def test_store_folder_keeps_the_data(start_broker: StartBroker) -> None:
    broker = start_broker()
    broker.api.ok_publish("t", 1)

    assert (broker.folder / "broker.db").exists()


def test_port_in_use_stops_the_start(start_broker: StartBroker, tmp_path: Path) -> None:
    first = start_broker()
    second = BrokerProcess(tmp_path, BROKER_PORT=str(first.port))
    try:
        second.launch()

        assert second.wait() != 0
        assert str(first.port) in second.log()
    finally:
        second.close()


def test_start_without_keys_warns_once(start_broker: StartBroker) -> None:
    broker = start_broker(BROKER_LOG_FORMAT="text")
    broker.api.ok_publish("t", 1)

    assert broker.log().count("BROKER_API_KEYS") == 1


def test_log_as_json_is_one_object_a_line(start_broker: StartBroker) -> None:
    broker = start_broker(BROKER_LOG_FORMAT="json")
    read_problem(broker.api.get_topic("unknown"), 404)
    broker.stop()

    lines = broker.log().splitlines()
    assert lines
    assert [line for line in lines if not (line.startswith("{") and line.endswith("}"))] == []


@pytest.mark.parametrize("arguments", [["nonsense"], ["serve", "--nonsense"], []])
def test_wrong_use_of_the_command_exits_with_2(arguments: list[str]) -> None:
    ended = subprocess.run(
        [BROKER, *arguments], capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 2
    assert "usage" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


def test_help_exits_with_0() -> None:
    ended = subprocess.run(
        [BROKER, "--help"], capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 0
    assert "serve" in ended.stdout
