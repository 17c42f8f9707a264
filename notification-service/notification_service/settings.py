"""The service's settings, read once from a mapping: the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from apprise import Apprise
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from broker_client.secret_files import UnusableSecret, with_secrets

SECRETS = frozenset({"BROKER_API_KEY", "BROKER_WEBHOOK_SECRET", "NOTIFY_URLS"})

HttpUrl = Annotated[str, Field(pattern="^https?://.+")]
Origins = Annotated[str, Field(pattern=r"^(\*|[\w.:-]+( *, *[\w.:-]+)*)$")]


class WrongSetting(ValueError):
    """A setting has a value that the service cannot work with."""


def _database_url(value: str) -> str:
    try:
        supported = make_url(value).get_backend_name() in ("sqlite", "postgresql")
    except ArgumentError:
        supported = False
    if not supported:
        raise ValueError("allowed are sqlite:////path/to/file.db and postgresql://user@host/name")
    return value


def _notify_urls(value: str) -> tuple[str, ...]:
    urls = [url.strip(",") for url in value.split()]
    for position, url in enumerate(urls, start=1):
        if Apprise.instantiate(url) is None:
            kind = url.partition("://")[0]
            raise ValueError(f"entry {position} ({kind}://…) is no URL that Apprise knows")
    return tuple(urls)


class Settings(BaseModel):
    """What the environment says; a field's variable is its name in capitals."""

    model_config = ConfigDict(alias_generator=str.upper, frozen=True)

    host: str = "0.0.0.0"  # noqa: S104  a container is reached from outside itself
    port: Annotated[int, Field(ge=1, le=65535)] = 8003
    database_url: Annotated[str, AfterValidator(_database_url)] = (
        "sqlite:////data/notification-service.db"
    )
    broker_url: HttpUrl = "http://127.0.0.1:8080"
    broker_api_key: str | None = None
    broker_subscribe: bool = True
    """Whether the service creates its subscriptions itself."""
    broker_webhook_url: HttpUrl = "http://127.0.0.1:8003"
    """Where the broker reaches this service."""
    broker_webhook_secret: Annotated[str, Field(pattern="^whsec_[A-Za-z0-9+/=]+$")] | None = None
    """What the broker signs its requests with; without it the service makes one and keeps it."""
    broker_webhook_origins: Origins = "broker"
    """Which brokers that ask for consent get it: their names with commas between, or *."""
    notify_urls: Annotated[tuple[str, ...], BeforeValidator(_notify_urls)] = ()
    """Where notifications are sent: Apprise URLs with spaces between; none: they are only kept."""
    log_format: Literal["text", "json"] = "text"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings; a variable that is set to nothing counts as absent.

    A secret may be in a file that `<variable>_FILE` names, as containers are given them.
    Raises WrongSetting, which names every wrong variable, its value and what is allowed.
    """
    try:
        environment = with_secrets(environment, *SECRETS)
    except UnusableSecret as unusable:
        raise WrongSetting(str(unusable)) from None
    given = {name: value for name, value in environment.items() if value != ""}
    try:
        return Settings.model_validate(given)
    except ValidationError as fault:
        lines = (
            f"{name}={'(hidden)' if name in SECRETS else repr(error['input'])}: {error['msg']}"
            for error in fault.errors()
            for name in error["loc"]
        )
        raise WrongSetting("\n".join(lines)) from None
