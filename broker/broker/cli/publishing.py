"""Publishing: what is sent, and how often it is tried."""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import click

from broker.cli.batches import Batch
from broker.cli.connection import Answer, Connection, Refusal, Unreachable, path_of
from broker.cli.failure import Refused

TRIES = 6
LONGEST_WAIT_S = 10.0
_BATCH = "application/cloudevents-batch+json"
_PASSING = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_POSITION = re.compile(r"\[(\d+)\](?:\.(.*))?")


class Publisher:
    """Publishes to one topic. Every event has an id, so what may be stored already is repeated."""

    def __init__(
        self, connection: Connection, topic: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._connection = connection
        self._path = path_of("topics", topic, "messages")
        self._sleep = sleep

    def publish(
        self, attributes: Mapping[str, str], content: bytes | None, content_type: str | None
    ) -> Answer:
        """Publish one event in binary mode, its data byte for byte."""
        from uuid_utils import uuid7

        from broker.cloudevents import encode_header_value

        given = {"id": str(uuid7()), **attributes}
        headers = {f"ce-{name}": encode_header_value(text) for name, text in given.items()}
        if content_type is not None:
            headers["Content-Type"] = content_type
        return self._post(content, headers, begun=False)

    def publish_batch(self, batch: Batch, *, begun: bool) -> Sequence[bytes]:
        """Publish a batch; return what became of each event, as JSON.

        Once it has begun, a broker that cannot be reached is waited for.
        """
        from msgspec import Raw
        from msgspec.json import decode

        try:
            answer = self._post(batch.body(), {"Content-Type": _BATCH}, begun=begun)
        except Refusal as refusal:
            raise Refused(_told(refusal, batch)) from None
        return [bytes(each) for each in decode(answer.body, type=dict[str, list[Raw]])["messages"]]

    def _post(self, body: bytes | None, headers: Mapping[str, str], *, begun: bool) -> Answer:
        wait_s = 0.5
        for left in reversed(range(TRIES)):
            try:
                return self._connection.request("POST", self._path, body, headers)
            except Refusal as refusal:
                if refusal.status not in _PASSING or not left:
                    raise
                wait_s = max(wait_s, refusal.retry_after_s or 0)
            except Unreachable as lost:
                if not (lost.sent or begun) or not left:
                    raise
            self._sleep(min(wait_s, LONGEST_WAIT_S))
            begun = True
            wait_s *= 2
        raise AssertionError("the last try returns or raises")


def content_of(given: str | None, content_type: str | None) -> tuple[bytes | None, str | None]:
    """Return the data that an argument means, and its type. Raises UsageError."""
    if given is None:
        return None, content_type
    if given == "-":
        content = sys.stdin.buffer.read()
    elif given.startswith("@"):
        try:
            content = Path(given[1:]).read_bytes()
        except OSError as error:
            raise click.UsageError(f"{given[1:]}: {error.strerror}.") from None
    else:
        content = given.encode()
    if content_type is not None:
        return content, content_type
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content, "application/octet-stream"
    try:
        json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in {"{", "["}:
            raise click.UsageError(
                f"The data looks like JSON and is none: {error}. "
                "To publish it as it is, give --content-type text/plain."
            ) from None
        return content, "text/plain; charset=utf-8"
    return content, "application/json"


def _told(refusal: Refusal, batch: Batch) -> str:
    lines = [f"Lines {batch.lines[0]} to {batch.lines[-1]} were refused. {refusal.detail}"]
    for each in refusal.errors:
        found = _POSITION.fullmatch(each["field"])
        field = each["field"]
        if found is not None and int(found[1]) < len(batch.lines):
            field = f"line {batch.lines[int(found[1])]}"
            field += f": {found[2]}" if found[2] else ""
        lines.append(f"  {field}: {each['message']}")
    return "\n".join(lines)
