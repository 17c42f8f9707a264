"""Every target bears its seeds: what it begins with, and what once was a fault of the project's."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cloudevents import read_structured
from broker.config import Settings
from broker.signing import signature_header
from broker_client import InvalidSignature
from fuzz.__main__ import main
from fuzz.target import NAMES, SEEDS, check_of, seeds_of

OTHER = b'{"specversion":"1.0","id":"other","source":"/other","type":"t"}'
PLAYED = [
    pytest.param(name, seed, id=f"{name}-{seed.name}") for name in NAMES for seed in seeds_of(name)
]
NOTHING = [b"", b"\n\n", b"\xff\xfe\x00", b"{}", b"[" * 20_000, b"\xed\xa0\x80"]


def play_all(name: str) -> None:
    """Have a target check all its seeds."""
    check = check_of(name)
    for seed in seeds_of(name):
        check(seed.read_bytes())


@pytest.mark.parametrize(("name", "seed"), PLAYED)
def test_target_bears_its_seed(name: str, seed: Path) -> None:
    check_of(name)(seed.read_bytes())


def test_every_target_has_seeds_and_no_others_are_there() -> None:
    assert {folder.name for folder in SEEDS.iterdir()} == set(NAMES)
    assert all(seeds_of(name) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", NOTHING)
def test_target_bears_what_is_nothing(name: str, data: bytes) -> None:
    check_of(name)(data)


# What a target's check goes through, and what may become of that: each must be noticed.
BREAKABLE = {
    "ack_token": "claim_in",
    "answer": "decide",
    "batch": "read_batch",
    "binary_event": "read_binary",
    "cesql": "Expression",
    "filters": "wants",
    "host": "AllowedHosts",
    "original": "subscribe",
    "plain_answer": "PlainRequests",
    "schema": "checked",
    "settings": "settings_from",
    "signature": "signature_header",
    "structured_event": "read_structured",
    "subscription": "updated",
}


@pytest.mark.parametrize("fault", [KeyError, UnicodeError, RecursionError, MemoryError])
@pytest.mark.parametrize("name", NAMES)
def test_fault_is_noticed(
    name: str, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise fault

    check_of(name)
    monkeypatch.setattr(f"fuzz.targets.{name}.{BREAKABLE[name]}", failing)

    with pytest.raises(fault):
        play_all(name)


def swapped(*arguments: object) -> str:
    """Sign the wrong thing."""
    return signature_header(*arguments[:3], b"another body")  # type: ignore[arg-type]


WRONG = {
    "answer": ("answer.hold_s", lambda *_: 1e9),
    "ack_token": ("ack_token.claim_in", lambda *_: None),
    "cesql": ("cesql.type_of", lambda _: None),
    "filters": ("filters.wants", lambda _: None),
    "host": ("host.AllowedHosts.allow", lambda *_: True),
    "original": ("original._as_json", lambda _: b'"another"'),
    "settings": ("settings.settings_from", lambda _: Settings(port=0)),
    "signature": ("signature.signature_header", swapped),
    "subscription": ("subscription.host_of", lambda _: "elsewhere.example"),
    "structured_event": ("structured_event._carefully", lambda _: read_structured(OTHER, None)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_result_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, wrong = WRONG[name]
    check_of(name)
    monkeypatch.setattr(f"fuzz.targets.{place}", wrong)

    with pytest.raises((AssertionError, InvalidSignature)):
        play_all(name)


def test_event_that_comes_out_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.events.structured", lambda *_: OTHER)

    for name in ("binary_event", "structured_event", "batch", "original"):
        with pytest.raises(AssertionError):
            play_all(name)


def test_command_plays_one_input(tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.write_bytes(b"1 = 1")

    assert main(["--only", "cesql", "--play", str(found)]) == 0
