"""The settings of a subscriber."""

from __future__ import annotations

from typing import Any

import pytest

from broker_client.settings import read_settings

WHOLE = {"BROKER_URL": "http://broker:8080/", "BROKER_WEBHOOK_URL": "http://shop:5000/"}


def test_two_settings_are_enough() -> None:
    settings = read_settings(WHOLE, "shop")

    assert settings.url == "http://broker:8080"
    assert settings.subscriber_name == "shop"
    assert settings.subscribe
    assert settings.webhook_secret is None
    assert settings.endpoint("order") == "http://shop:5000/webhooks/order"


@pytest.mark.parametrize(
    ("path", "endpoint"), [("/in/", "http://shop:5000/in/order"), ("/", "http://shop:5000/order")]
)
def test_the_path_can_be_chosen(path: str, endpoint: str) -> None:
    settings = read_settings({**WHOLE, "BROKER_WEBHOOK_PATH": path}, "shop")

    assert settings.endpoint("order") == endpoint


@pytest.mark.parametrize("off", [False, "false", "0", "off", "No", ""])
def test_without_subscribing_no_url_is_needed(off: Any) -> None:
    assert not read_settings({"BROKER_SUBSCRIBE": off}, "shop").subscribe


@pytest.mark.parametrize("unset", [None, ""])
def test_an_empty_setting_counts_as_unset(unset: Any) -> None:
    settings = read_settings(
        {**WHOLE, "BROKER_API_KEY": unset, "BROKER_WEBHOOK_SECRET": unset}, "s"
    )

    assert (settings.api_key, settings.webhook_secret) == (None, None)


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        (None, ()),
        ("", ()),
        ("*", ("*",)),
        (" Broker , events.example.com:8443,", ("broker", "events.example.com:8443")),
    ],
)
def test_origins_are_names_with_commas(value: str | None, origins: tuple[str, ...]) -> None:
    settings = read_settings({**WHOLE, "BROKER_WEBHOOK_ORIGINS": value}, "shop")

    assert settings.webhook_origins == origins


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"BROKER_URL": None}, "BROKER_URL"),
        ({"BROKER_URL": "broker:8080"}, "BROKER_URL"),
        ({"BROKER_WEBHOOK_URL": ""}, "BROKER_WEBHOOK_URL"),
        ({"BROKER_WEBHOOK_PATH": "in"}, "BROKER_WEBHOOK_PATH"),
        ({"BROKER_SUBSCRIBE": "perhaps"}, "BROKER_SUBSCRIBE"),
        ({"BROKER_SUBSCRIBER_NAME": "a/b"}, "subscription name"),
        ({"BROKER_WEBHOOK_SECRET": "whsec_"}, "BROKER_WEBHOOK_SECRET"),
        ({"BROKER_WEBHOOK_ORIGINS": "https://broker"}, "BROKER_WEBHOOK_ORIGINS"),
        ({"BROKER_WEBHOOK_ORIGINS": "*.example"}, "BROKER_WEBHOOK_ORIGINS"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        read_settings({**WHOLE, **change}, "shop")
