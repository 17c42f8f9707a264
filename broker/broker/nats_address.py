"""Where the journal is: what a `nats://` URL says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

SCHEME = "nats://"
DEFAULT_NAME = "broker"
MOST_REPLICAS = 5
ALLOWED = "nats://<host>:<port>[,<host>:<port>…][/<name>][?replicas=1…5]"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SERVER = re.compile(r"(?:[^\s/@,?#]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """The servers, the name under which brokers share one journal, and how often it is kept."""

    servers: Sequence[str]
    name: str = DEFAULT_NAME
    replicas: int = 1

    @property
    def stream(self) -> str:
        """The stream that is the journal."""
        return f"BROKER_{self.name}"

    @property
    def subject(self) -> str:
        """The one subject of the stream."""
        return f"broker.{self.name}.journal"

    @property
    def snapshots(self) -> str:
        """The bucket of the object store that has the snapshots."""
        return f"BROKER_{self.name}_SNAPSHOTS"

    def __str__(self) -> str:
        """Name the place without the credentials that may be in it."""
        hosts = ",".join(server.removeprefix(SCHEME).rpartition("@")[2] for server in self.servers)
        return f"{SCHEME}{hosts}/{self.name}"


def parse_address(url: str) -> Address:
    """Read a URL. Raises ValueError.

    `replicas` is how many servers keep the journal; without it one for each server that is named,
    but an odd number, because a majority of them has to agree.
    """
    if not url.startswith(SCHEME):
        raise ValueError(f"{url} is not {ALLOWED}")
    place, _, query = url.removeprefix(SCHEME).partition("?")
    hosts, _, name = place.partition("/")
    servers = hosts.split(",")
    if not all(map(_is_server, servers)) or not _NAME.fullmatch(name or DEFAULT_NAME):
        raise ValueError(f"{url} is not {ALLOWED}")
    replicas = min(len(servers) - (len(servers) + 1) % 2, MOST_REPLICAS)
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option != "replicas" or not value.isascii() or not value.isdigit():
            raise ValueError(f"{url} is not {ALLOWED}")
        replicas = int(value)
    if not 1 <= replicas <= MOST_REPLICAS:
        raise ValueError(f"{url} is not {ALLOWED}")
    return Address(tuple(SCHEME + server for server in servers), name or DEFAULT_NAME, replicas)


def _is_server(text: str) -> bool:
    match = _SERVER.fullmatch(text)
    return match is not None and (match[1] is None or 1 <= int(match[1]) <= 65535)
