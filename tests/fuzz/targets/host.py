"""The Host that a browser sends, and on the lines behind it the names that are allowed."""

from __future__ import annotations

import ipaddress
import re

from broker.hosts import AllowedHosts, parse_allowed_hosts

NAME = re.compile(r"[a-z0-9_.-]+")


def check(data: bytes) -> None:
    """Decide about a Host; a name that a stranger can own is allowed only where it was named."""
    host, _, others = data.partition(b"\n")
    items = others.decode("latin-1").split("\n") if others else []
    try:
        allowed = parse_allowed_hosts(items)
    except ValueError as wrong:
        assert str(wrong) in items
        allowed = AllowedHosts()
    assert parse_allowed_hosts(allowed.names) == allowed
    for name in allowed.names - {"*"}:
        assert allowed.allow(name.encode())
        assert allowed.allow(name.upper().encode() + b":8080")
    if AllowedHosts().allow(host):
        assert not _of_a_stranger(host.decode("latin-1").lower())
        assert allowed.allow(host)


def _of_a_stranger(host: str) -> bool:
    """Say whether a browser could send this Host because a page was loaded by that name."""
    name, colon, port = host.partition(":")
    if (colon and not port.isdigit()) or not NAME.fullmatch(name):
        return False
    name = name.rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name and not name.endswith(".localhost")
    return False
