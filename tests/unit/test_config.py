"""Every setting, right and wrong, and all faults told at once."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.config import _VARIABLES, Settings, WrongSetting, settings_from, sqlite_path
from broker.hosts import parse_allowed_hosts
from broker.targets import parse_allowed_targets
from support.endpoint import SELF_SIGNED

KEY = "0123456789abcdef"
PEM = str(SELF_SIGNED)

GOOD: list[tuple[str, str, str, object]] = [
    ("BROKER_STORE", "sqlite:////data/other.db", "store", "sqlite:////data/other.db"),
    ("BROKER_STORE", "sqlite:///data/broker.db", "store", "sqlite:///data/broker.db"),
    ("BROKER_HOST", "127.0.0.1", "host", "127.0.0.1"),
    ("BROKER_HOST", "::", "host", "::"),
    ("BROKER_PORT", "1", "port", 1),
    ("BROKER_PORT", "65535", "port", 65535),
    ("BROKER_GRPC_PORT", "50052", "grpc_port", 50052),
    ("BROKER_STORE", "nats://a:4222,b/shop", "store", "nats://a:4222,b/shop"),
    ("BROKER_REPLICA", "/data/copy/", "replica", "/data/copy/"),
    ("BROKER_NODE_URL", "http://node-1:8080/", "own_url", "http://node-1:8080"),
    ("BROKER_PUBLIC_URL", "https://broker.example/x/", "public_url", "https://broker.example/x"),
    ("BROKER_LOG_LEVEL", "DEBUG", "log_level", "debug"),
    ("BROKER_LOG_FORMAT", "text", "log_format", "text"),
    ("BROKER_API_KEYS", "off", "api_keys", False),
    ("BROKER_ADMIN_KEY", KEY, "admin_key", KEY),
    (
        "BROKER_ENCRYPTION_KEY",
        f"{'ab' * 32}, {'A' * 43}=\n",
        "encryption_keys",
        (b"\xab" * 32, bytes(32)),
    ),
    (
        "BROKER_ALLOWED_TARGETS",
        "10.0.0.0/8, orders ,,",
        "allowed_targets",
        parse_allowed_targets(["10.0.0.0/8", "orders"]),
    ),
    (
        "BROKER_ALLOWED_HOSTS",
        "Events.Example.com, broker.lan.,,",
        "allowed_hosts",
        parse_allowed_hosts(["events.example.com", "broker.lan"]),
    ),
    ("BROKER_ALLOWED_HOSTS", "*", "allowed_hosts", parse_allowed_hosts(["*"])),
    ("BROKER_CA_FILE", PEM, "ca_file", PEM),
    ("BROKER_CLIENT_CERT_FILE", PEM, "client_cert_file", PEM),
    ("BROKER_CLIENT_KEY_FILE", PEM, "client_key_file", PEM),
    ("BROKER_AUTO_CREATE_TOPICS", "false", "auto_create_topics", False),
    ("BROKER_AUTO_CREATE_TOPICS", "On", "auto_create_topics", True),
    ("BROKER_MAX_MESSAGE_BYTES", "1024", "max_message_bytes", 1024),
    ("BROKER_MAX_BATCH_BYTES", "268435456", "max_batch_bytes", 268435456),
    ("BROKER_MIN_FREE_BYTES", "0", "min_free_bytes", 0),
    ("BROKER_DRAIN_S", "0.5", "drain_s", 0.5),
    ("BROKER_COURIERS", "32", "couriers", 32),
]

WRONG: dict[str, list[str]] = {
    "BROKER_STORE": [
        "broker.db",
        "sqlite://",
        "sqlite:///",
        "sqlite://broker.db",
        "sqlite:////data/",
        "sqlite:///:memory:",
        "sqlite:////data/..",
        "postgres://localhost/broker",
        "nats://",
        "nats://a?replicas=9",
    ],
    "BROKER_REPLICA": ["/", "a\0b"],
    "BROKER_NODE_URL": ["node-1", "tcp://node-1"],
    "BROKER_HOST": ["http://0.0.0.0", "a b", "a/b"],
    "BROKER_PORT": ["0", "65536", "-1", "80.0", "http", "8080 8081"],
    "BROKER_GRPC_PORT": ["0", "grpc"],
    "BROKER_PUBLIC_URL": [
        "broker.example",
        "ftp://broker.example",
        "http://",
        "http://[",
        "http://a:99999",
        "http://a b",
    ],
    "BROKER_LOG_LEVEL": ["trace", "10"],
    "BROKER_LOG_FORMAT": ["xml"],
    "BROKER_API_KEYS": ["maybe", "2"],
    "BROKER_ADMIN_KEY": ["short", "0123456789abcde"],
    "BROKER_ENCRYPTION_KEY": [",", "short", "A" * 42, "ab" * 31, "x" * 64, f"{'A' * 43},short"],
    "BROKER_ALLOWED_TARGETS": ["10.0.0.0/33", "http://orders", "orders:80", "a,b/c"],
    "BROKER_ALLOWED_HOSTS": ["https://a.example", "a.example:80", "*.example", "a b", "."],
    "BROKER_CA_FILE": ["/nowhere/authority.pem", "/", __file__],
    "BROKER_CLIENT_CERT_FILE": ["/nowhere/broker.crt", "/", __file__],
    "BROKER_CLIENT_KEY_FILE": ["/nowhere/broker.key", "/"],
    "BROKER_AUTO_CREATE_TOPICS": ["perhaps"],
    "BROKER_MAX_MESSAGE_BYTES": ["1023", "67108865", "1MiB", "1e6"],
    "BROKER_MAX_BATCH_BYTES": ["0", "268435457", "lots"],
    "BROKER_MIN_FREE_BYTES": ["-1", "10%"],
    "BROKER_DRAIN_S": ["-1", "601", "nan", "inf", "1s"],
    "BROKER_COURIERS": ["0", "33", "auto", "1.5"],
}


# What has to be set as well.
BESIDE = {
    "BROKER_CLIENT_CERT_FILE": {"BROKER_CLIENT_KEY_FILE": PEM},
    "BROKER_CLIENT_KEY_FILE": {"BROKER_CLIENT_CERT_FILE": PEM},
}


def refusal(environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(WrongSetting) as refused:
        settings_from(environ)
    return str(refused.value).splitlines()


def test_empty_environment_gives_the_defaults() -> None:
    assert settings_from({}) == Settings()


def test_other_variables_are_ignored() -> None:
    assert settings_from({"BROKERS": "x", "PATH": "/bin", "broker_port": "x"}) == Settings()


def test_tables_of_these_tests_have_every_variable() -> None:
    assert {variable for variable, _, _, _ in GOOD} == set(WRONG) == set(_VARIABLES)


@pytest.mark.parametrize(("variable", "text", "field", "value"), GOOD)
def test_good_value_is_taken(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(settings_from({**BESIDE.get(variable, {}), variable: text}), field) == value


@pytest.mark.parametrize("variable", WRONG)
@pytest.mark.parametrize("text", ["", "  "])
def test_empty_value_is_the_default(variable: str, text: str) -> None:
    assert settings_from({variable: text}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text"), [(variable, text) for variable, texts in WRONG.items() for text in texts]
)
def test_wrong_value_is_told_with_its_variable_and_what_is_allowed(
    variable: str, text: str
) -> None:
    (line,) = refusal({**BESIDE.get(variable, {}), variable: text})
    assert line.startswith(f'{variable} is "')
    assert f"allowed: {_VARIABLES[variable][2]}" in line
    assert (f'"{text}"' in line) == (variable not in {"BROKER_ADMIN_KEY", "BROKER_ENCRYPTION_KEY"})


def test_credentials_of_a_store_are_not_shown() -> None:
    (line,) = refusal({"BROKER_STORE": "nats://me:sesame@a,token@b/x/y"})
    assert "sesame" not in line
    assert "token" not in line
    assert "@a," in line


def test_brokers_reach_one_another_by_host_name() -> None:
    assert settings_from({"BROKER_PORT": "81"}).node_url == f"http://{socket.gethostname()}:81"
    assert settings_from({"BROKER_NODE_URL": "http://n:1"}).node_url == "http://n:1"


@pytest.mark.parametrize(
    ("url", "address"),
    [("http://n:1", "n:50051"), ("https://[2001:db8::1]", "[2001:db8::1]:50051")],
)
def test_grpc_of_a_broker_is_where_its_url_is(url: str, address: str) -> None:
    assert settings_from({"BROKER_NODE_URL": url}).node_rpc == address


def test_all_faults_are_told_at_once() -> None:
    lines = refusal({variable: texts[0] for variable, texts in WRONG.items()})
    assert [line.split()[0] for line in lines] == list(_VARIABLES)


def test_keys_without_an_admin_key_are_refused() -> None:
    (line,) = refusal({"BROKER_API_KEYS": "on"})
    assert line.startswith("BROKER_ADMIN_KEY is not set; allowed: ")
    taken = settings_from({"BROKER_API_KEYS": "on", "BROKER_ADMIN_KEY": KEY})
    assert taken.api_keys
    assert taken.admin_key == KEY


def test_wrong_admin_key_is_not_called_missing() -> None:
    (line,) = refusal({"BROKER_API_KEYS": "on", "BROKER_ADMIN_KEY": "short"})
    assert line.startswith('BROKER_ADMIN_KEY is "…"')


@pytest.mark.parametrize(
    ("store", "path"),
    [("sqlite:////data/broker.db", "/data/broker.db"), ("sqlite:///data/b.db", "data/b.db")],
)
def test_fourth_slash_makes_the_path_absolute(store: str, path: str) -> None:
    assert sqlite_path(store) == path


def test_admin_key_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "admin_key"
    file.write_text(f"{KEY}\n")
    taken = settings_from({"BROKER_API_KEYS": "on", "BROKER_ADMIN_KEY_FILE": str(file)})
    assert taken.admin_key == KEY


@pytest.mark.parametrize(
    ("content", "more", "told"),
    [
        (None, {}, "which cannot be read: No such file or directory"),
        (b"", {}, "which is empty"),
        (b"\xff\xfe", {}, "which cannot be read: it is not text"),
        (KEY.encode(), {"BROKER_ADMIN_KEY": KEY}, "are both set; allowed: one"),
    ],
)
def test_file_that_has_no_key_is_refused(
    tmp_path: Path, content: bytes | None, more: dict[str, str], told: str
) -> None:
    file = tmp_path / "admin_key"
    if content is not None:
        file.write_bytes(content)
    (line,) = refusal({"BROKER_API_KEYS": "on", "BROKER_ADMIN_KEY_FILE": str(file), **more})
    assert "BROKER_ADMIN_KEY_FILE" in line
    assert line.endswith(told)
