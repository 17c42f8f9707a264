"""Which addresses a webhook may reach, in every spelling an address has."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.targets import AllowedTargets, parse_allowed_targets

PUBLIC = ["1.1.1.1", "93.184.215.14", "168.63.129.17", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]

FORBIDDEN_V4 = {
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "loopback": "127.0.0.1",
    "loopback, not the usual one": "127.255.255.254",
    "private A": "10.0.0.1",
    "private B": "172.31.255.255",
    "private C": "192.168.1.1",
    "link-local": "169.254.0.1",
    "metadata service": "169.254.169.254",
    "carrier-grade NAT": "100.64.0.1",
    "metadata service of another cloud": "100.100.100.200",
    "metadata service of an older cloud": "192.0.0.192",
    "platform behind a machine": "168.63.129.16",
    "benchmarking": "198.18.0.1",
    "documentation": "203.0.113.1",
    "multicast": "224.0.0.1",
    "multicast within a site": "239.1.2.3",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
}
FORBIDDEN_V6 = {
    "unspecified": "::",
    "loopback": "::1",
    "link-local": "fe80::1",
    "link-local with its interface": "fe80::1%eth0",
    "site-local": "fec0::1",
    "unique local": "fc00::1",
    "metadata service": "fd00:ec2::254",
    "multicast": "ff02::1",
    "multicast, global": "ff0e::1",
    "documentation": "2001:db8::1",
    "documentation, the newer range": "3fff::1",
    "discard-only": "100::1",
    "Teredo": "2001:0:7f00:1::",
    "ORCHID": "2001:20::1",
    "local NAT64": "64:ff9b:1::7f00:1",
    "IPv4-compatible": "::127.0.0.1",
    "IPv4-translated": "::ffff:0:127.0.0.1",
    "segment routing": "5f00::1",
    "unallocated": "4000::1",
}


def mapped(address: str) -> str:
    return f"::ffff:{address}"


def nat64(address: str) -> str:
    return f"64:ff9b::{address}"


def six_to_four(address: str) -> str:
    high, low = divmod(int(ipaddress.IPv4Address(address)), 1 << 16)
    return f"2002:{high:x}:{low:x}::1"


WRAPPED = {
    f"{name}, {wrap.__name__}": wrap(address)
    for name, address in FORBIDDEN_V4.items()
    for wrap in (mapped, nat64, six_to_four)
}
FORBIDDEN = {**FORBIDDEN_V4, **{f"v6 {k}": v for k, v in FORBIDDEN_V6.items()}, **WRAPPED}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed(address: str) -> None:
    assert AllowedTargets().allow("example.com", address)


@pytest.mark.parametrize("wrap", [mapped, nat64, six_to_four])
def test_public_address_inside_another_is_allowed(wrap: object) -> None:
    assert callable(wrap)
    assert AllowedTargets().allow("example.com", wrap("1.1.1.1"))


@pytest.mark.parametrize("address", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_other_address_is_refused(address: str) -> None:
    assert not AllowedTargets().allow("example.com", address)


@pytest.mark.parametrize("wrap", [str, mapped, nat64, six_to_four])
def test_allowed_network_covers_an_address_in_every_spelling(wrap: object) -> None:
    assert callable(wrap)
    targets = parse_allowed_targets(["10.0.0.0/8"])
    assert targets.allow("anything", wrap("10.1.2.3"))
    assert not targets.allow("anything", wrap("192.168.0.1"))


def test_allowed_ipv6_network_covers_its_addresses_only() -> None:
    targets = parse_allowed_targets(["fd00:1::/32"])
    assert targets.allow("anything", "fd00:1::5")
    assert not targets.allow("anything", "fd00:2::5")
    assert not targets.allow("anything", "10.0.0.1")


@pytest.mark.parametrize("host", ["orders", "ORDERS", "orders.", "Orders."])
def test_allowed_host_may_lead_anywhere(host: str) -> None:
    targets = parse_allowed_targets(["Orders"])
    assert targets.allow(host, "127.0.0.1")


@pytest.mark.parametrize("host", ["orders.example", "xorders", "order", ""])
def test_host_that_only_resembles_an_allowed_one_is_judged_by_address(host: str) -> None:
    targets = parse_allowed_targets(["orders"])
    assert not targets.allow(host, "127.0.0.1")
    assert targets.allow(host, "1.1.1.1")


@given(st.ip_addresses())
def test_allowed_address_is_never_a_special_one(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if AllowedTargets().allow("example.com", str(address)):
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast
        assert not address.is_unspecified


@given(st.lists(st.ip_addresses().map(str) | st.sampled_from(["a-b", "10.0.0.0/8", "x.y."])))
def test_names_say_the_targets_again(items: list[str]) -> None:
    targets = parse_allowed_targets(items)
    assert parse_allowed_targets(targets.names()) == targets


@pytest.mark.parametrize(
    "item", ["", " ", "10.0.0.0/33", "a/b", "http://a", "a:80", "*", "a b", "-"]
)
def test_item_that_is_neither_host_nor_network_is_named(item: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 the text is the item itself
        parse_allowed_targets(["good.example", item])
    assert str(refused.value) == item


def test_network_given_by_an_address_in_it_is_the_network() -> None:
    assert parse_allowed_targets(["10.1.2.3/8"]) == parse_allowed_targets(["10.0.0.0/8"])
