"""Under which names a browser may reach the broker.

A stranger's page can have its own name lead to 127.0.0.1 (DNS rebinding), and the browser then
takes the broker for that page's origin. What such a page cannot do is to send another Host than its
name.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

ANY = "*"
# Every browser sends the last of them with every request, and the first two by no means always: a
# page reads what is of its own origin without Origin, and over plain HTTP without Sec-Fetch-Site.
_OF_BROWSERS = frozenset({b"origin", b"sec-fetch-site", b"accept-language"})
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Names besides addresses, `localhost` and names without a dot, which no stranger can own."""

    names: frozenset[str] = frozenset()

    def allow(self, host: bytes) -> bool:
        """Say whether a browser may send this Host."""
        name = _name_in(host.decode("latin-1"))
        return (
            ANY in self.names
            or name in self.names
            or _is_address(name)
            or name.rpartition(".")[2] == "localhost"
            or ("." not in name and _is_name(name))
        )

    def also(self, name: str | None) -> "AllowedHosts":
        """Return them with one more, if there is one."""
        return self if name is None else AllowedHosts(self.names | {name})


EVERY_HOST = AllowedHosts(frozenset({ANY}))


def parse_allowed_hosts(items: Iterable[str]) -> AllowedHosts:
    """Read names, or `*` for all; raise ValueError naming the one that is neither."""
    names = set()
    for item in items:
        name = item.lower().rstrip(".")
        if item != ANY and not _is_name(name):
            raise ValueError(item)
        names.add(name)
    return AllowedHosts(frozenset(names))


def from_browser(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether a browser may have sent a request with these headers."""
    return any(name in _OF_BROWSERS for name, _ in headers)


def _name_in(host: str) -> str:
    """Return the host without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _is_name(text: str) -> bool:
    return bool(text) and _LETTERS.issuperset(text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
