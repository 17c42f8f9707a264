"""The settings of a subscriber, read once from an application's configuration."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker_client.names import check_name
from broker_client.signatures import is_secret

_ORIGIN = re.compile(r"[a-z0-9_.:-]+")
_TRUE = frozenset({"1", "true", "on", "yes"})
_FALSE = frozenset({"0", "false", "off", "no", ""})


@dataclass(frozen=True, slots=True)
class SubscriberSettings:
    """What a subscriber needs to know; field `x` is `BROKER_X` in the configuration.

    `subscribe` says whether to create subscriptions at all; without it `url` and `webhook_url` may
    be missing. `webhook_url` is the base under which the broker reaches this application,
    `webhook_origins` are the names of brokers that may deliver to it, `*` any.
    """

    url: str
    api_key: str | None
    subscriber_name: str
    subscribe: bool
    webhook_url: str
    webhook_path: str
    webhook_secret: str | None
    webhook_origins: tuple[str, ...] = ()

    def endpoint(self, topic: str) -> str:
        """Return the URL to which the broker delivers a topic's messages."""
        return f"{self.webhook_url}{self.webhook_path}/{topic}"


def read_settings(config: Mapping[str, Any], default_name: str) -> SubscriberSettings:
    """Read the `BROKER_…` settings. Raises ValueError that names the setting at fault."""
    subscribe = _flag("BROKER_SUBSCRIBE", config.get("BROKER_SUBSCRIBE", True))
    name = config.get("BROKER_SUBSCRIBER_NAME")
    return SubscriberSettings(
        url=_url("BROKER_URL", config, required=subscribe),
        api_key=config.get("BROKER_API_KEY") or None,
        subscriber_name=check_name("subscription", default_name if name is None else name),
        subscribe=subscribe,
        webhook_url=_url("BROKER_WEBHOOK_URL", config, required=subscribe),
        webhook_path=_path("BROKER_WEBHOOK_PATH", config.get("BROKER_WEBHOOK_PATH", "/webhooks")),
        webhook_secret=_secret("BROKER_WEBHOOK_SECRET", config),
        webhook_origins=_origins("BROKER_WEBHOOK_ORIGINS", config),
    )


def _url(name: str, config: Mapping[str, Any], *, required: bool) -> str:
    value = config.get(name) or ""
    if not value and not required:
        return ""
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"{name} must be a URL with http:// or https://, not {value!r}")
    return str(value).rstrip("/")


def _path(name: str, value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"{name} must begin with '/', not {value!r}")
    return value.rstrip("/")


def _secret(name: str, config: Mapping[str, Any]) -> str | None:
    value = config.get(name) or None
    if value is not None and not is_secret(value):
        raise ValueError(f"{name} must be 'whsec_' and the base64 of 24 to 64 bytes")
    return value


def _origins(name: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    value = config.get(name) or ""
    found = tuple(part.strip().lower() for part in value.split(",") if part.strip())
    if not all(one == "*" or _ORIGIN.fullmatch(one) for one in found):
        raise ValueError(f"{name} must be names of brokers, with commas between, or *: {value!r}")
    return found


def _flag(name: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"{name} must be true or false, not {value!r}")
