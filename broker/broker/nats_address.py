"""Where the journal is: what a `nats://` URL says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from broker.partition import HOME

SCHEME = "nats://"
DEFAULT_NAME = "broker"
MOST_REPLICAS = 5
MOST_CELLS = 64
ALLOWED = (
    "nats://<host>:<port>[,<host>:<port>…][/<name>][?replicas=1…5][&cells=1…64], "
    "each option once at most"
)

_MOST = {"replicas": MOST_REPLICAS, "cells": MOST_CELLS}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SERVER = re.compile(r"(?:[^\s/@,?#]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """The servers, the name under which brokers share one store, and how often it is kept.

    The store is in `cells` parts, each with a journal of its own; this is the place of one.
    """

    servers: Sequence[str]
    name: str = DEFAULT_NAME
    replicas: int = 1
    cells: int = 1
    cell: int = HOME

    def of(self, cell: int) -> "Address":
        """Return the place of one of the store's parts."""
        return replace(self, cell=cell)

    @property
    def stream(self) -> str:
        """The stream that is the journal."""
        return f"{self._prefix}_{self.name}"

    @property
    def subject(self) -> str:
        """The one subject of the stream."""
        part = "" if self.cell == HOME else f".{self.cell}"
        return f"broker.{self.name}.journal{part}"

    @property
    def snapshots(self) -> str:
        """The bucket of the object store that has the snapshots."""
        return f"{self._prefix}_{self.name}_SNAPSHOTS"

    @property
    def heartbeats(self) -> str:
        """The subject on which the brokers of a store hear of one another. No stream has it."""
        return f"broker.{self.name}.heartbeats"

    @property
    def _prefix(self) -> str:
        # Before the name and not behind it, where another store could be called the same.
        return "BROKER" if self.cell == HOME else f"BROKER-{self.cell}"

    def __str__(self) -> str:
        """Name the place without the credentials that may be in it."""
        hosts = ",".join(server.removeprefix(SCHEME).rpartition("@")[2] for server in self.servers)
        part = "" if self.cell == HOME else f" (cell {self.cell})"
        return f"{SCHEME}{hosts}/{self.name}{part}"


def parse_address(url: str) -> Address:
    """Read a URL. Raises ValueError.

    `replicas` is how many servers keep the journal; without it one for each server that is named,
    but an odd number, because a majority of them has to agree. `cells` is in how many parts the
    store is, 1 without it.
    """
    if not url.startswith(SCHEME):
        raise ValueError(f"{url} is not {ALLOWED}")
    place, _, query = url.removeprefix(SCHEME).partition("?")
    hosts, _, name = place.partition("/")
    servers = hosts.split(",")
    if not all(map(_is_server, servers)) or not _NAME.fullmatch(name or DEFAULT_NAME):
        raise ValueError(f"{url} is not {ALLOWED}")
    options = _options(url, query)
    return Address(
        tuple(SCHEME + server for server in servers),
        name or DEFAULT_NAME,
        options.get("replicas", min(len(servers) - (len(servers) + 1) % 2, MOST_REPLICAS)),
        options.get("cells", 1),
    )


def _options(url: str, query: str) -> dict[str, int]:
    options: dict[str, int] = {}
    for option, value in parse_qsl(query, keep_blank_values=True):
        most = _MOST.get(option, 0)
        usable = option not in options and value.isascii() and value.isdigit()
        if not usable or not 1 <= int(value) <= most:
            raise ValueError(f"{url} is not {ALLOWED}")
        options[option] = int(value)
    return options


def _is_server(text: str) -> bool:
    match = _SERVER.fullmatch(text)
    return match is not None and (match[1] is None or 1 <= int(match[1]) <= 65535)
