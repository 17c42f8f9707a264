"""Values that commands are given, and how they show them."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import click
import pytest

from broker.cli.arguments import NULL, Duration, Moment, OrNone, Size
from broker.cli.batches import MAX_BYTES, batches_in
from broker.cli.connection import path_of
from broker.cli.failure import Refused
from broker.cli.rendering import counted, data_of, duration, moment, printable, said, size


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Duration(), "90", 90),
        (Duration(), "1.5s", 1.5),
        (Duration(), "250ms", 0.25),
        (Duration(), "10m", 600),
        (Duration(), "12h", 43200),
        (Duration(), "7d", 604800),
        (Duration(), "2 w", 1209600),
        (Size(), "1000", 1000),
        (Size(), "64KiB", 65536),
        (Size(), "10 MB", 10485760),
        (Size(), "1g", 2**30),
        (Moment(), "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        (OrNone(click.INT), "none", NULL),
        (OrNone(click.INT), "7", 7),
    ],
)
def test_values_are_read(kind: click.ParamType[Any], text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Duration(), ""),
        (Duration(), "-1"),
        (Duration(), "1y"),
        (Duration(), "1e9"),
        (Size(), "1.5MiB"),
        (Size(), "many"),
        (Moment(), "+"),
        (Moment(), "+99999999999d"),
        (OrNone(click.INT), "no"),
    ],
)
def test_wrong_values_are_refused(kind: click.ParamType[Any], text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (duration(0.5), "0.5 s"),
        (duration(119), "1.98 min"),
        (duration(604800), "7 d"),
        (duration(None), "-"),
        (size(1023), "1023 B"),
        (size(1536), "1.5 KiB"),
        (counted(1, "message"), "1 message"),
        (counted(1200, "message"), "1,200 messages"),
        (moment("2026-01-31T12:00:00.123456Z"), "2026-01-31T12:00:00.123Z"),
        (moment("2026-01-31T12:00:00Z"), "2026-01-31T12:00:00Z"),
        (moment("at\nnoon"), "at\\nnoon"),
        (said(True), "yes"),
        (said(1234), "1,234"),
        (said(["a", "b"]), "a, b"),
        (said({}), "-"),
        (said([{"a": "é"}]), '[{"a": "é"}]'),
        (printable("a\tb\u2028c\ue000 é漢"), "a\\tb\\u2028c\\ue000 é漢"),
        (data_of({"data": "x"}), '"x"'),
        (data_of({"data": "x", "datacontenttype": "text/plain"}), "x"),
        (data_of({"data_base64": "AAAA", "datacontenttype": "image/png"}), "(3 B of image/png)"),
        (data_of({}), "-"),
    ],
)
def test_values_are_shown(shown: str, text: str) -> None:
    assert shown == text


def test_parts_of_a_path_stay_parts() -> None:
    assert path_of("topics", "../a?b#c%", 7) == "/v1/topics/%2E%2E%2Fa%3Fb%23c%25/7"


def test_batches_are_bounded_by_count_and_bytes() -> None:
    large = json.dumps({"id": "1", "data": "x" * (MAX_BYTES // 3)})
    small = json.dumps({"id": "2"})
    content = "\n".join([large] * 4 + ["", small] * 1500).encode()

    batches = list(batches_in(BytesIO(content), {}))

    assert [len(batch.events) for batch in batches] == [2, 1000, 502]
    assert all(len(batch.body()) < MAX_BYTES + 3000 for batch in batches)
    assert [batch.lines[0] for batch in batches] == [1, 3, 2002]
    assert batches[-1].lines[-1] == 3004


def test_events_keep_what_they_bring_and_have_the_rest_from_the_defaults() -> None:
    line = b'{"id":"1","type":"own","sequence":7,"data":{"a": 1.50}}'

    (batch,) = batches_in(BytesIO(line), {"type": "default", "source": "/s"})

    (event,) = batch.events
    assert b'"data":{"a": 1.50}' in event
    document = json.loads(event)
    assert document.pop("time")
    assert document == {
        "specversion": "1.0",
        "id": "1",
        "type": "own",
        "source": "/s",
        "data": {"a": 1.5},
    }


@pytest.mark.parametrize("line", [b"{", b"[]", b"7", b'{"a": 1} x', b"\xff"])
def test_line_that_is_no_event_is_named(line: bytes) -> None:
    with pytest.raises(Refused, match="Line 2 "):
        list(batches_in(BytesIO(b'{"id": "1"}\n' + line), {}))
