"""Settings: a wrong one ends the start, with its name, its value and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import notification_service.settings
import order_service.settings
import shipping_service.settings

ALL = [order_service.settings, shipping_service.settings, notification_service.settings]
CONSUMERS = ALL[1:]

# Apprise's mail plugin imports it where Python still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


@pytest.mark.parametrize("module", ALL)
def test_service_runs_on_its_defaults(module: ModuleType) -> None:
    settings = module.read_settings({})

    name = module.__name__.partition(".")[0].replace("_", "-")
    assert settings.database_url == f"sqlite:////data/{name}.db"
    assert settings.broker_api_key is None


@pytest.mark.parametrize("module", ALL)
def test_variable_set_to_nothing_counts_as_absent(module: ModuleType) -> None:
    assert module.read_settings({"PORT": "", "DATABASE_URL": ""}) == module.read_settings({})


@pytest.mark.parametrize("module", ALL)
@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "http", "integer"),
        ("PORT", "0", "greater than or equal to 1"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("BROKER_URL", "broker:8080", "https?://"),
        ("DATABASE_URL", "orders.db", "sqlite:////path/to/file.db"),
        ("DATABASE_URL", "mysql://host/name", "postgresql://"),
    ],
)
def test_wrong_setting_is_named_with_its_value_and_what_is_allowed(
    module: ModuleType, name: str, value: str, allowed: str
) -> None:
    with pytest.raises(module.WrongSetting) as raised:
        module.read_settings({name: value})

    assert str(raised.value).startswith(f"{name}={value!r}: ")
    assert allowed in str(raised.value)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (order_service.settings, "DEMO_ORDER_INTERVAL_S", "-1"),
        (order_service.settings, "DEMO_ORDER_INTERVAL_S", "inf"),
        (order_service.settings, "DEMO_ORDER_INTERVAL_S", "often"),
        (shipping_service.settings, "SHIPPING_STEP_S", "-1"),
        (shipping_service.settings, "SHIPPING_STEP_S", "nan"),
        (shipping_service.settings, "BROKER_WEBHOOK_URL", "ftp://host"),
        (notification_service.settings, "BROKER_WEBHOOK_URL", "host"),
        (shipping_service.settings, "BROKER_WEBHOOK_ORIGINS", "http://broker"),
        (notification_service.settings, "BROKER_WEBHOOK_ORIGINS", "a b"),
        (notification_service.settings, "LOG_FORMAT", "xml"),
        (order_service.settings, "LOG_FORMAT", "xml"),
        (shipping_service.settings, "LOG_FORMAT", "xml"),
    ],
)
def test_wrong_setting_of_one_service_is_named(module: ModuleType, name: str, value: str) -> None:
    with pytest.raises(module.WrongSetting, match=f"^{name}={value!r}: "):
        module.read_settings({name: value})


MODULES = (order_service.settings, shipping_service.settings, notification_service.settings)


@pytest.mark.parametrize("module", MODULES)
def test_key_may_be_in_a_file(module: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("brk_the-key\n")
    settings = module.read_settings({"BROKER_API_KEY_FILE": str(file)})
    assert settings.broker_api_key == "brk_the-key"


@pytest.mark.parametrize("module", MODULES)
def test_file_that_is_not_there_is_named(module: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(
        module.WrongSetting, match=f'^BROKER_API_KEY_FILE is "{file}", which cannot'
    ):
        module.read_settings({"BROKER_API_KEY_FILE": str(file)})


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(order_service.settings.WrongSetting) as raised:
        order_service.settings.read_settings({"PORT": "x", "DEMO_ORDER_INTERVAL_S": "y"})

    lines = str(raised.value).splitlines()
    assert [line.partition("=")[0] for line in lines] == ["PORT", "DEMO_ORDER_INTERVAL_S"]


@pytest.mark.parametrize("module", CONSUMERS)
def test_wrong_secret_is_named_but_not_shown(module: ModuleType) -> None:
    with pytest.raises(module.WrongSetting) as raised:
        module.read_settings({"BROKER_WEBHOOK_SECRET": "hunter2"})

    assert "BROKER_WEBHOOK_SECRET" in str(raised.value)
    assert "whsec_" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_notify_urls_are_split_at_spaces_and_commas() -> None:
    settings = notification_service.settings.read_settings(
        {"NOTIFY_URLS": "json://a.example/x, mailto://b.example?from=a@b.example&to=c@d.example"}
    )

    assert [url.partition(":")[0] for url in settings.notify_urls] == ["json", "mailto"]


@pytest.mark.parametrize("value", ["nonsense", "foo://bar", "json://a.example foo://user:pw@bar"])
def test_notify_url_that_apprise_does_not_know_is_refused_unseen(value: str) -> None:
    with pytest.raises(notification_service.settings.WrongSetting) as raised:
        notification_service.settings.read_settings({"NOTIFY_URLS": value})

    assert str(raised.value).startswith("NOTIFY_URLS=")
    assert "Apprise" in str(raised.value)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("package", ["order_service", "shipping_service", "notification_service"])
def test_gunicorn_does_not_start_on_a_wrong_setting(package: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--config", f"python:{package}.gunicorn_conf"],
        env={"PORT": "http"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("PORT='http': ")
    assert "Traceback" not in ended.stderr
