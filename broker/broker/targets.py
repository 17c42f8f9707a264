"""Which network addresses a webhook may be sent to."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


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
    return address.is_global and not address.is_multicast and not address.is_reserved
