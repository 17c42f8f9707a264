"""The broker's settings, read once from the environment."""

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from broker.encryption import keys_in
from broker.hosts import AllowedHosts, parse_allowed_hosts
from broker.nats_address import ALLOWED, SCHEME, parse_address
from broker.secret_files import UnusableSecret, with_secrets
from broker.targets import AllowedTargets, parse_allowed_targets
from broker.tls import UnusableFile, belongs, certificates_in, key_in

T = TypeVar("T")
_CREDENTIALS = re.compile(r"[^/,@]+@")
_MIB = 1024 * 1024
_SECRET = ("BROKER_ADMIN_KEY", "BROKER_ENCRYPTION_KEY")
MOST_COURIERS_BY_DEFAULT = 4
_TRUE, _FALSE = {"true", "on", "yes", "1"}, {"false", "off", "no", "0"}


def _couriers_by_default() -> int:
    """Return as many as there are cores to be used, but no more than one worker can keep busy."""
    return min(len(os.sched_getaffinity(0)), MOST_COURIERS_BY_DEFAULT)


class WrongSetting(Exception):
    """One or more settings cannot be used; the text has a line for each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a broker was started with. Sizes are in bytes, `_s` in seconds."""

    store: str = "sqlite:////data/broker.db"
    host: str = "0.0.0.0"  # noqa: S104 a container's own network; the compose file publishes it on loopback
    port: int = 8080
    replica: str = "/data/replica"
    own_url: str | None = None
    grpc_port: int = 50051
    public_url: str | None = None
    log_level: str = "info"
    log_format: str = "json"
    api_keys: bool = False
    admin_key: str | None = None
    encryption_keys: tuple[bytes, ...] = field(default=(), repr=False)
    allowed_targets: AllowedTargets = field(default_factory=AllowedTargets)
    allowed_hosts: AllowedHosts | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    auto_create_topics: bool = True
    max_message_bytes: int = _MIB
    max_batch_bytes: int = 16 * _MIB
    min_free_bytes: int = 256 * _MIB
    drain_s: float = 20.0
    couriers: int = field(default_factory=_couriers_by_default)

    @property
    def node_url(self) -> str:
        """Where the other brokers of a cluster reach this one."""
        return self.own_url or f"http://{socket.gethostname()}:{self.port}"

    @property
    def node_rpc(self) -> str:
        """Where they reach its gRPC: the same host, and the port."""
        host = urlsplit(self.node_url).hostname or ""
        return f"[{host}]:{self.grpc_port}" if ":" in host else f"{host}:{self.grpc_port}"


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Read every `BROKER_…` variable; raise WrongSetting that tells all faults at once.

    A variable that is absent or empty has its default. `BROKER_ADMIN_KEY_FILE` names a file with
    the admin key, `BROKER_ENCRYPTION_KEY_FILE` one with the keys that encrypt secrets.
    """
    values: dict[str, object] = {}
    faults: list[str] = []
    try:
        environ = with_secrets(environ, *_SECRET)
    except UnusableSecret as unusable:
        faults.append(str(unusable))
    for variable, (name, parse, allowed) in _VARIABLES.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            values[name] = parse(text)
        except UnusableFile as unusable:
            faults.append(f'{variable} is "{text}", {unusable}; allowed: {allowed}')
        except ValueError:
            shown = "…" if variable in _SECRET else _CREDENTIALS.sub("…@", text)
            faults.append(f'{variable} is "{shown}"; allowed: {allowed}')
    if values.get("api_keys") and not _names_admin_key(environ):
        faults.append(
            "BROKER_ADMIN_KEY is not set; allowed: a key of at least 16 characters, "
            "needed because BROKER_API_KEYS is on"
        )
    faults += _certificate_faults(values, environ)
    if faults:
        raise WrongSetting("\n".join(faults))
    return Settings(**values)  # type: ignore[arg-type]


def _names_admin_key(environ: Mapping[str, str]) -> bool:
    names = ("BROKER_ADMIN_KEY", "BROKER_ADMIN_KEY_FILE")
    return any(environ.get(name, "").strip() for name in names)


def shown_store(store: str) -> str:
    """Return what a log may say of a store: without credentials."""
    return _CREDENTIALS.sub("…@", store) if store.startswith(SCHEME) else store


def _certificate_faults(values: Mapping[str, object], environ: Mapping[str, str]) -> list[str]:
    names = ("BROKER_CLIENT_CERT_FILE", "BROKER_CLIENT_KEY_FILE")
    absent = [name for name in names if not environ.get(name, "").strip()]
    if len(absent) == 1:
        (other,) = set(names) - set(absent)
        return [f"{absent[0]} is not set; allowed: a file in PEM, needed because {other} is set"]
    certificate, key = values.get("client_cert_file"), values.get("client_key_file")
    if not (isinstance(certificate, str) and isinstance(key, str)) or belongs(certificate, key):
        return []
    return [
        f'BROKER_CLIENT_KEY_FILE is "{key}", whose key does not belong to the certificate in '
        f'BROKER_CLIENT_CERT_FILE ("{certificate}"); allowed: the key that it was made for'
    ]


def sqlite_path(store: str) -> str:
    """Return the file that a `sqlite:///…` URL names; a fourth slash makes it absolute.

    Raises WrongSetting for a store that is not one file.
    """
    if not store.startswith("sqlite:///"):
        raise WrongSetting(
            "BROKER_STORE is on NATS JetStream, and not one file. Name the file of a broker's "
            "copy, for example /data/replica/replica.db."
        )
    return store.removeprefix("sqlite:///")


def _store(text: str) -> str:
    if text.startswith(SCHEME):
        parse_address(text)
        return text
    scheme, _, rest = text.partition("://")
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/") and not rest.endswith("/"):
        if os.path.basename(rest) in {"", ".", "..", ":memory:"}:
            raise ValueError(text)
        return text
    raise ValueError(text)


def _folder(text: str) -> str:
    if "\0" in text or not os.path.basename(text.rstrip("/")):
        raise ValueError(text)
    return text


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(text)
        return text.lower()

    return parse


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _url(text: str) -> str:
    parts = urlsplit(text)
    usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    if not usable or any(c.isspace() for c in text):
        raise ValueError(text)
    return text.rstrip("/")


def _host(text: str) -> str:
    if any(c.isspace() or c in "/?#@" for c in text):
        raise ValueError(text)
    return text


def _admin_key(text: str) -> str:
    if len(text) < 16:
        raise ValueError(text)
    return text


def _encryption_keys(text: str) -> tuple[bytes, ...]:
    keys = keys_in(text)
    if not keys:
        raise ValueError(text)
    return keys


def _targets(text: str) -> AllowedTargets:
    return parse_allowed_targets(part.strip() for part in text.split(",") if part.strip())


def _hosts(text: str) -> AllowedHosts:
    return parse_allowed_hosts(part.strip() for part in text.split(",") if part.strip())


_VARIABLES: dict[str, tuple[str, Callable[[str], object], str]] = {
    "BROKER_STORE": (
        "store",
        _store,
        f"sqlite:///<path of a file>, for example sqlite:////data/broker.db; or {ALLOWED}",
    ),
    "BROKER_REPLICA": ("replica", _folder, "the path of a folder, for example /data/replica"),
    "BROKER_NODE_URL": ("own_url", _url, "an http or https URL"),
    "BROKER_HOST": ("host", _host, "a host name or address to listen on"),
    "BROKER_PORT": ("port", _integer(1, 65535), "a whole number from 1 to 65535"),
    "BROKER_GRPC_PORT": ("grpc_port", _integer(1, 65535), "a whole number from 1 to 65535"),
    "BROKER_PUBLIC_URL": ("public_url", _url, "an http or https URL"),
    "BROKER_LOG_LEVEL": (
        "log_level",
        _one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
    ),
    "BROKER_LOG_FORMAT": ("log_format", _one_of("json", "text"), "json or text"),
    "BROKER_API_KEYS": ("api_keys", _boolean, "on or off"),
    "BROKER_ADMIN_KEY": ("admin_key", _admin_key, "a key of at least 16 characters"),
    "BROKER_ENCRYPTION_KEY": (
        "encryption_keys",
        _encryption_keys,
        "keys of 32 random bytes, each in base64 or hex, the newest first, with spaces or commas "
        "between",
    ),
    "BROKER_ALLOWED_TARGETS": (
        "allowed_targets",
        _targets,
        "host names and CIDRs, separated by commas, for example 10.0.0.0/8,order-service",
    ),
    "BROKER_ALLOWED_HOSTS": (
        "allowed_hosts",
        _hosts,
        "host names, separated by commas, for example broker.example.com, or * for any",
    ),
    "BROKER_CA_FILE": ("ca_file", certificates_in, "a file of certificates in PEM"),
    "BROKER_CLIENT_CERT_FILE": (
        "client_cert_file",
        certificates_in,
        "a file in PEM with a certificate, and those that vouch for it behind it",
    ),
    "BROKER_CLIENT_KEY_FILE": (
        "client_key_file",
        key_in,
        "a file in PEM with the certificate's private key, without a passphrase",
    ),
    "BROKER_AUTO_CREATE_TOPICS": ("auto_create_topics", _boolean, "true or false"),
    "BROKER_MAX_MESSAGE_BYTES": (
        "max_message_bytes",
        _integer(1024, 64 * _MIB),
        f"a whole number of bytes from 1024 to {64 * _MIB}",
    ),
    "BROKER_MAX_BATCH_BYTES": (
        "max_batch_bytes",
        _integer(1024, 256 * _MIB),
        f"a whole number of bytes from 1024 to {256 * _MIB}",
    ),
    "BROKER_MIN_FREE_BYTES": (
        "min_free_bytes",
        _integer(0, 2**50),
        "a whole number of bytes, 0 or more",
    ),
    "BROKER_DRAIN_S": ("drain_s", _seconds(0, 600), "seconds from 0 to 600"),
    "BROKER_COURIERS": ("couriers", _integer(1, 32), "a whole number from 1 to 32"),
}
