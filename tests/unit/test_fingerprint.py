"""Repeats are told from reused ids, also by what an earlier process or version has kept."""

from __future__ import annotations

import json
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given

import broker.fingerprint
from broker.cloudevents import read_batch, read_binary, read_structured
from broker.fingerprint import is_of
from broker.model import NewMessage
from unit.events import Json, events

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "subject": "s",
    "partitionkey": "k",
    "deliverat": "2026-01-31T12:00:00Z",
    "datacontenttype": "text/plain",
    "data": "d",
}
OF_VERSIONS = {
    "sha256": "3e5b1b9275596c1f8e99aecdbfedc78c7e6e587c40c7f5e14661d6b6c6212b72",
    "xxh3": b"12345678".hex() + "a55c9bf497c341e3c1f84dff0d109002",
}
OWN = ("type", "subject", "partitionkey", "deliverat", "datacontenttype")


def read(event: Json) -> NewMessage:
    return read_structured(json.dumps(event).encode(), None)


def read_in_every_way(event: Json) -> list[NewMessage]:
    body = json.dumps(event).encode()
    names = (*OWN[:-1], "id", "source", "specversion")
    headers = [(f"ce-{name}".encode(), str(event[name]).encode()) for name in names]
    headers.append((b"content-type", str(event["datacontenttype"]).encode()))
    return [
        read_structured(body, None),
        read_batch(b"[%s]" % body)[0],
        read_batch(b"[%s]" % json.dumps({**event, "own": 1}).encode())[0],
        read_binary("topic", headers, event["data"].encode(), None, lambda: "id", 0.0),
    ]


def of_another_process(event: Json) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker.fingerprint, "_OWN_SEED", b"12345678")
        patch.setattr(broker.fingerprint, "_OWN_SEED_NUMBER", int.from_bytes(b"12345678", "little"))
        found = read(event).fingerprint
    assert found is not None
    return found


def of_an_older_version(event: Json) -> bytes:
    told = (*(event.get(name) for name in OWN), read(event).data)
    return sha256(msgspec.msgpack.encode(told)).digest()


@pytest.mark.parametrize("version", OF_VERSIONS)
@pytest.mark.parametrize("way", range(4), ids=["structured", "batch", "careful", "binary"])
def test_fingerprint_that_stands_in_files_is_known(version: str, way: int) -> None:
    known = bytes.fromhex(OF_VERSIONS[version])
    assert is_of(known, read_in_every_way(EVENT)[way])
    assert not is_of(known, read_in_every_way({**EVENT, "data": "e"})[way])


def test_fingerprint_is_one_however_the_event_comes() -> None:
    assert len({message.fingerprint for message in read_in_every_way(EVENT)}) == 1


@given(events(), events())
def test_fingerprint_of_another_process_tells_the_same(one: Json, other: Json) -> None:
    known = of_another_process(one)
    assert is_of(known, read(one))
    assert is_of(known, read(other)) == (read(one).fingerprint == read(other).fingerprint)


@given(events(), events())
def test_fingerprint_of_an_older_version_tells_the_same(one: Json, other: Json) -> None:
    known = of_an_older_version(one)
    assert is_of(known, read(one))
    assert is_of(known, read(other)) == (read(one).fingerprint == read(other).fingerprint)


@pytest.mark.parametrize("name", [*OWN, "data"])
def test_one_difference_is_told_by_whatever_is_kept(name: str) -> None:
    changes = {"deliverat": "2026-01-31T12:00:01Z", "datacontenttype": "text/csv"}
    other = read({**EVENT, name: changes.get(name, "other")})
    for known in (
        read(EVENT).fingerprint or b"",
        of_another_process(EVENT),
        of_an_older_version(EVENT),
    ):
        assert is_of(known, read({**EVENT, "time": "2026-01-31T12:00:00Z"}))
        assert not is_of(known, other)
