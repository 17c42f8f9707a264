"""Every example of the library's README runs, and does what the text says."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from broker_client import Event
from broker_client.signatures import sign
from sdk.loopback_broker import LoopbackBroker
from sdk.readme import EXAMPLES, README
from sdk.webhook import SECRET, binary, signed
from support.eventually import eventually

Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def run(broker: LoopbackBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the one example that contains a text, in an empty folder, against the broker."""
    monkeypatch.chdir(tmp_path)
    namespaces: list[dict[str, Any]] = []

    def run_example(text: str) -> dict[str, Any]:
        [code] = [example for example in EXAMPLES if text in example]
        namespace: dict[str, Any] = {"__name__": "example"}
        namespaces.append(namespace)
        code = code.replace("http://localhost:8080", broker.url)
        exec(compile(code, str(README), "exec"), namespace)
        return namespace

    yield run_example
    for namespace in namespaces:
        _end(namespace)


def _end(namespace: dict[str, Any]) -> None:
    """End what a process would take along with it."""
    for name, ending in (
        ("pool", "shutdown"),
        ("outbox", "stop"),
        ("subscriber", "stop"),
        ("publisher", "close"),
        ("engine", "dispose"),
    ):
        if name in namespace:
            getattr(namespace[name], ending)()


def deliver(
    app: Flask, broker: LoopbackBroker, event: Event, attempt: int = 1, **headers: str
) -> TestResponse:
    """Deliver an event as the broker would, with the secret it was told."""
    [(path, subscription)] = broker.subscriptions.items()
    *_, topic, _, name = path.split("/")
    webhook = signed(
        binary(event),
        secret=subscription["secret"],
        subscription=f"{topic}/{name}",
        attempt=attempt,
        **headers,
    )
    return app.test_client().post(
        f"/webhooks/{topic}", data=webhook.body, headers=dict(webhook.headers)
    )


def event(id: str = "a-1", **data: object) -> Event:
    return Event(type="order.created", source="/order-service", id=id, data=data)


def published(broker: LoopbackBroker) -> list[Any]:
    return [each["data"] for each in broker.messages.get("order", [])]


def rows(path: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_the_publisher_publishes(
    run: Run, broker: LoopbackBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    run("print(receipt.sequence)")

    [stored] = broker.messages["order"]
    assert (stored["data"], stored["partitionkey"]) == ({"order_id": 7}, "7")
    assert capsys.readouterr().out == "1\n"


def test_the_subscriber_subscribes_and_receives(
    run: Run, broker: LoopbackBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    example = run('app = Flask("shop")')
    eventually(lambda: example["subscriber"].ready)

    first = deliver(example["app"], broker, event(order_id=7))
    second = deliver(example["app"], broker, event(order_id=7), attempt=2)

    assert first.headers["Webhook-Receipt"] == "processed"
    assert second.headers["Webhook-Receipt"] == "duplicate"
    assert capsys.readouterr().out == "shipping order 7\n"


def test_events_are_published_as_told(run: Run, broker: LoopbackBroker) -> None:
    example = run("created = Event(")

    assert example["repeated"].duplicate
    assert not example["several"][0].duplicate
    assert [each["type"] for each in broker.messages["order"]] == ["order.created", "order.paid"]
    assert broker.messages["order"][0] == example["created"].to_dict()


def test_the_outbox_with_sqlalchemy_publishes_what_was_committed(
    run: Run, broker: LoopbackBroker
) -> None:
    run("outbox.start()")

    eventually(lambda: published(broker) == [{"order_id": 8}])
    assert rows("orders.db", "SELECT id FROM orders") == [(8,)]


def test_the_outbox_with_plain_connections_publishes_what_was_committed(
    run: Run, broker: LoopbackBroker
) -> None:
    run("outbox.relay_once()")

    assert published(broker) == [{"order_id": 9}]
    assert rows("orders.db", "SELECT id FROM orders") == [(9,)]


def test_the_handler_with_verdicts_gives_them(run: Run, broker: LoopbackBroker) -> None:
    example = run("DeadLetter, Inbox, Retry")
    eventually(lambda: example["subscriber"].ready)

    def answer(id: str, attempt: int = 1, **data: object) -> TestResponse:
        return deliver(example["app"], broker, event(id, **data), attempt)

    assert answer("1", order_id=7).headers["Webhook-Receipt"] == "processed"
    assert answer("2").headers["Webhook-Verdict"] == "dead-letter"
    assert answer("3", order_id=8, fragile=True).headers["Webhook-Verdict"] == "retry"
    assert answer("3", 2, order_id=8, fragile=True).headers["Webhook-Receipt"] == "processed"
    assert rows("shipments.db", "SELECT order_id FROM shipment") == [(7,), (8,)]
    [subscription] = broker.subscriptions.values()
    assert subscription["max_in_flight"] == 8


def test_the_inbox_without_flask_handles_once(run: Run) -> None:
    handle = run("def handle(event: Event) -> bool:")["handle"]

    assert [handle(event(order_id=7)), handle(event(order_id=7))] == [True, False]
    assert rows("shop.db", "SELECT order_id FROM shipment") == [(7,)]


def test_an_event_that_is_forgotten_is_handled_again(run: Run) -> None:
    example = run("def allow_again(event: Event)")
    example["handle"](event(order_id=7))

    example["allow_again"](event())

    assert example["handle"](event(order_id=7))
    assert rows("shop.db", "SELECT order_id FROM shipment") == [(7,), (7,)]


def test_work_is_answered_later_and_done_once(run: Run, broker: LoopbackBroker) -> None:
    example = run("import Inbox, Later")
    eventually(lambda: example["subscriber"].ready)
    [subscription] = broker.subscriptions.values()
    assert (subscription["allow_later"], subscription["ack_deadline_s"]) == (True, 600)
    ack_url = broker.url + "/v1/acks/video/studio/token"

    for attempt in (1, 2):
        answer = deliver(
            example["app"], broker, event(frames=[0] * 50), attempt, webhook_ack_url=ack_url
        )
        assert (answer.status_code, answer.headers.get("Webhook-Verdict")) == (
            (202, "later") if attempt == 1 else (204, None)
        )
        eventually(lambda: len(_told(broker)) == 1)

    assert _told(broker) == [{"verdict": "ack", "receipt": "processed"}]
    assert rows("studio.db", "SELECT id, length_s FROM video") == [("a-1", 2.0)]


def _told(broker: LoopbackBroker) -> list[Any]:
    return [each.document for each in broker.requests if each.path.startswith("/v1/acks/")]


def test_signatures_without_flask_are_checked(run: Run) -> None:
    receive = run("def receive(secret")["receive"]
    webhook = binary(event(order_id=7))
    headers = {**webhook.headers, **sign(SECRET, "msg_1", datetime.now(UTC), webhook.body)}

    received = receive(SECRET, headers, webhook.body)
    assert received.data == {"order_id": 7}
    assert receive(SECRET, headers, webhook.body + b" ") is None


def test_many_events_are_published_in_few_requests(broker: LoopbackBroker, run: Run) -> None:
    namespace = run("BatchingPublisher")

    assert namespace["last"].sequence == 1000
    assert [each["data"]["order_id"] for each in broker.messages["order"]] == list(range(1000))
    assert len(broker.requests) < 500


def test_events_are_published_from_a_loop(broker: LoopbackBroker, run: Run) -> None:
    namespace = run("AsyncPublisher")

    assert len(namespace["receipts"]) == 19
    stored = [each["data"]["order_id"] for each in broker.messages["order"]]
    assert (stored[0], sorted(stored)) == (0, list(range(20)))


def test_every_example_has_its_test() -> None:
    assert (
        len(EXAMPLES) == 14
    )  # those that pull, or come by gRPC, are run against the broker itself


def test_examples_are_well_typed(tmp_path: Path) -> None:
    for number, example in enumerate(EXAMPLES):
        (tmp_path / f"example_{number}.py").write_text(example)

    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file=", "--check-untyped-defs"),
            *("--follow-imports=silent", "--no-error-summary", "--cache-dir", tmp_path / "cache"),
            *sorted(tmp_path.glob("*.py")),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(README.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stdout) == (0, "")
