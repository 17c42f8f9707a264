"""Under which names a browser may come, and who is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.bootstrap import _hosts_of
from broker.config import Settings
from broker.hosts import EVERY_HOST, AllowedHosts, from_browser, parse_allowed_hosts

HOSTS = parse_allowed_hosts(["broker.example.com", "Shop.LAN."])
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        # what no stranger's name can be
        (b"127.0.0.1", True),
        (b"127.0.0.1:8080", True),
        (b"192.168.1.7:8080", True),
        (b"203.0.113.9", True),
        (b"[::1]", True),
        (b"[::1]:8080", True),
        (b"[fd00::7]:8080", True),
        (b"localhost", True),
        (b"LOCALHOST:8080", True),
        (b"localhost.", True),
        (b"dashboard.localhost:8080", True),
        (b"broker", True),
        (b"broker:8080", True),
        (b"order-service_1:8080", True),
        # what was named
        (b"broker.example.com", True),
        (b"Broker.Example.com.:443", True),
        (b"shop.lan", True),
        # what may be a stranger's
        (b"evil.example", False),
        (b"evil.example:8080", False),
        (b"broker.evil.example", False),
        (b"broker.example.com.evil.example", False),
        (b"a.broker.example.com", False),
        (b"example.com", False),
        (b"localhost.evil.example", False),
        (b"notlocalhost.example", False),
        (b"127.0.0.1.evil.example", False),
        (b"127.0.0.1.nip.io", False),
        # what is none
        (b"", False),
        (b":8080", False),
        (b".", False),
        (b"[", False),
        (b"[evil.example]", False),
        (b"[::1", True),  # an address all the same
        (b"evil example", False),
        (b"a,b", False),
        (b"\xff", False),
    ],
)
def test_browser_may_come_by(host: bytes, allowed: bool) -> None:
    assert HOSTS.allow(host) is allowed


@given(st.lists(labels, min_size=2, max_size=4), st.none() | st.integers(1, 65535))
def test_name_with_a_dot_is_a_strangers_unless_it_was_named(
    parts: list[str], port: int | None
) -> None:
    name = ".".join(parts)
    host = name if port is None else f"{name}:{port}"
    own = parts[-1] == "localhost" or all(part.isdigit() for part in parts)

    assert own or not HOSTS.allow(host.encode())
    assert parse_allowed_hosts([name]).allow(host.upper().encode())


@given(st.binary())
def test_whatever_is_sent_as_a_host_is_judged(host: bytes) -> None:
    assert EVERY_HOST.allow(host)
    HOSTS.allow(host)


@pytest.mark.parametrize(
    ("names", "browser"),
    [
        ([], False),
        (["host", "user-agent", "accept", "accept-encoding", "connection"], False),  # httpx
        (["host", "user-agent", "content-type", "authorization", "traceparent"], False),
        (["host", "origin"], True),
        (["sec-fetch-site"], True),
        # a page reads of its own origin with neither, and cannot leave this one out
        (["host", "user-agent", "accept", "accept-language"], True),
    ],
)
def test_browser_is_known_by_its_headers(names: list[str], browser: bool) -> None:
    assert from_browser([(name.encode(), b"x") for name in names]) is browser


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        (Settings(), AllowedHosts()),
        (Settings(allowed_hosts=HOSTS), HOSTS),
        (Settings(public_url="https://Q.example:1/x"), parse_allowed_hosts(["q.example"])),
        (Settings(public_url="http://[::1]:1", allowed_hosts=HOSTS), HOSTS.also("::1")),
        # who has no key gets nothing, by whatever name
        (Settings(api_keys=True, admin_key="k"), EVERY_HOST),
        (Settings(api_keys=True, public_url="https://q.example"), EVERY_HOST),
        (Settings(api_keys=True, allowed_hosts=HOSTS), HOSTS),
        (
            Settings(api_keys=True, allowed_hosts=HOSTS, public_url="https://q.example"),
            HOSTS.also("q.example"),
        ),
    ],
)
def test_names_are_those_of_the_settings(settings: Settings, hosts: AllowedHosts) -> None:
    assert _hosts_of(settings) == hosts


@pytest.mark.parametrize("item", ["", ".", "a b", "a/b", "a:80", "*.example", "http://a", "ü"])
def test_what_is_no_name_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        parse_allowed_hosts([item])
