"""The broker's settings, as lines of `NAME=value` of an environment."""

from __future__ import annotations

from broker.config import _VARIABLES, Settings, WrongSetting, settings_from
from broker.targets import parse_allowed_targets
from fuzz.inputs import text_of

NAMES = {*_VARIABLES, "BROKER_ADMIN_KEY_FILE"}


def check(data: bytes) -> None:
    """Read an environment: settings that can be used, or a line for each that cannot."""
    lines = [line.partition("=") for line in text_of(data).split("\n")]
    # No environment has a null, and no fuzzer is to read the files of the machine it runs on.
    # A value has no line break here, so that every line that is told is about one variable.
    environment = {
        name: value for name, _, value in lines if "\0" not in value and not name.endswith("_FILE")
    }
    try:
        settings = settings_from(environment)
    except WrongSetting as wrong:
        _check_told(str(wrong), environment)
        return
    _check_usable(settings)


def _check_told(told: str, environment: dict[str, str]) -> None:
    named = [line.split(" ")[0] for line in told.split("\n") if "allowed:" in line]
    assert named
    assert all(any(name in line for name in NAMES) for line in named)
    key = environment.get("BROKER_ADMIN_KEY", "").strip()
    if len(key) > 3 and all(key not in value for value in (*NAMES, *_others(environment))):
        assert f'"{key}"' not in told, "the key is told"


def _others(environment: dict[str, str]) -> list[str]:
    return [value for name, value in environment.items() if name != "BROKER_ADMIN_KEY"]


def _check_usable(settings: Settings) -> None:
    assert 1 <= settings.port <= 65535
    assert 1 <= settings.grpc_port <= 65535
    assert settings.log_level in {"debug", "info", "warning", "error"}
    assert settings.log_format in {"json", "text"}
    assert settings.admin_key is None or len(settings.admin_key) >= 16
    assert settings.admin_key is not None or not settings.api_keys
    assert settings.max_message_bytes >= 1024
    assert settings.max_batch_bytes >= 1024
    assert settings.min_free_bytes >= 0
    assert 0 <= settings.drain_s <= 600
    targets = settings.allowed_targets
    assert parse_allowed_targets(targets.names()) == targets
    for address in ("127.0.0.1", "10.0.0.1", "::1", "8.8.8.8"):
        assert isinstance(targets.allow("nobody", address), bool)
