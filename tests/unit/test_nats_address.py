"""Where the journal is: what a `nats://` URL says."""

from __future__ import annotations

import pytest

from broker.nats_address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://a:4222", Address(("nats://a:4222",), "broker", 1)),
        ("nats://a", Address(("nats://a",), "broker", 1)),
        ("nats://[::1]:4222/shop", Address(("nats://[::1]:4222",), "shop", 1)),
        ("nats://u:p@a:1,b:2/x_1-Y", Address(("nats://u:p@a:1", "nats://b:2"), "x_1-Y", 1)),
        ("nats://a,b,c", Address(("nats://a", "nats://b", "nats://c"), "broker", 3)),
        ("nats://a,b,c,d", Address(("nats://a", "nats://b", "nats://c", "nats://d"), "broker", 3)),
        ("nats://a,b,c/?replicas=1", Address(("nats://a", "nats://b", "nats://c"), "broker", 1)),
        ("nats://a?replicas=5", Address(("nats://a",), "broker", 5)),
        ("nats://a/s?cells=4", Address(("nats://a",), "s", 1, 4)),
        ("nats://a?cells=64&replicas=3", Address(("nats://a",), "broker", 3, 64)),
    ],
)
def test_url_names_servers_a_name_and_replicas(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "nats://",
        "http://a",
        "nats://a,",
        "nats://a b",
        "nats://a:0",
        "nats://a:65536",
        "nats://a:x",
        "nats://a/b/c",
        "nats://a/b.c",
        "nats://a/" + "n" * 33,
        "nats://a?replicas=0",
        "nats://a?replicas=6",
        "nats://a?replicas=",
        "nats://a?replica=1",
        "nats://a?replicas",
        "nats://a?cells=0",
        "nats://a?cells=65",
        "nats://a?cells=",
        "nats://a?cells=x",
        "nats://a?cells=-1",
        "nats://a?cells=2&cells=2",
    ],
)
def test_what_is_no_such_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not nats://"):
        parse_address(url)


def test_text_has_no_credentials() -> None:
    assert str(parse_address("nats://u:secret@a:1,b/x")) == "nats://a:1,b/x"


def test_first_cell_is_called_as_a_store_of_one_and_each_other_as_no_store() -> None:
    """A store may have any name of letters, digits, `_` and `-`."""
    alone, several = parse_address("nats://a/s"), parse_address("nats://a/s?cells=3")
    names = ("stream", "subject", "snapshots")
    assert [getattr(several.of(0), each) for each in names] == [
        getattr(alone, each) for each in names
    ]
    second = [getattr(several.of(1), each) for each in names]
    assert second == ["BROKER-1_s", "broker.s.journal.1", "BROKER-1_s_SNAPSHOTS"]
    assert str(several.of(1)) == "nats://a/s (cell 1)"
