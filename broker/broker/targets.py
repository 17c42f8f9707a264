"""Which network addresses a webhook may be sent to."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_SPECIAL: tuple[Network, ...] = (
    ipaddress.IPv4Network("168.63.129.16/32"),  # the platform behind every Azure machine
    ipaddress.IPv4Network("192.0.0.0/24"),  # older Pythons know only parts of it
    ipaddress.IPv6Network("3fff::/20"),  # documentation: unknown to older Pythons
    ipaddress.IPv6Network("fec0::/10"),  # site-local: out of use, and private where it is not
)


@dataclass(frozen=True, slots=True)
class AllowedTargets:
    """Host names and networks that may be reached besides public addresses."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def names(self) -> list[str]:
        """Return what `parse_allowed_targets` would make this of."""
        return [*sorted(self.hosts), *map(str, self.networks)]

    def allow(self, host: str, address: str) -> bool:
        """Say whether `address`, to which the URL's `host` led, may be dialled."""
        if host.lower().rstrip(".") in self.hosts:
            return True
        dialled = _embedded(ipaddress.ip_address(address.partition("%")[0]))
        return _is_public(dialled) or any(dialled in network for network in self.networks)


def parse_allowed_targets(items: Iterable[str]) -> AllowedTargets:
    """Read host names and CIDRs; raise ValueError naming the one that is neither."""
    hosts, networks = set(), []
    for item in items:
        try:
            networks.append(ipaddress.ip_network(item, strict=False))
        except ValueError:
            if "/" in item or not item.replace("-", "").replace(".", "").replace("_", "").isalnum():
                raise ValueError(item) from None
            hosts.add(item.lower().rstrip("."))
    return AllowedTargets(frozenset(hosts), tuple(networks))


def _embedded(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one that only wraps it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _SPECIAL)
