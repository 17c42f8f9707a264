"""An application with inbox and outbox under real servers, delivered to as the broker does."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from werkzeug.serving import make_server

from broker_client import Event
from sdk.databases import Site
from sdk.loopback_broker import LoopbackBroker
from sdk.shop import create_app
from sdk.webhook import batch, binary, signed
from support.eventually import eventually

TESTS = Path(__file__).parents[2]
SUBSCRIPTION = "/v1/topics/order/subscriptions/shop"


def environment(site: Site, broker: LoopbackBroker, url: str) -> dict[str, str]:
    return {
        "BROKER_URL": broker.url,
        "BROKER_WEBHOOK_URL": url,
        "DATABASE_URL": site.engine.url.render_as_string(hide_password=False),
    }


@contextmanager
def werkzeug_server(site: Site, broker: LoopbackBroker) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = create_app(environment(site, broker, url))
        server = make_server("127.0.0.1", 0, app, threaded=True, fd=listening.fileno())
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            for stop in app.extensions["stop"]:
                stop()


@contextmanager
def gunicorn_server(site: Site, broker: LoopbackBroker) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        bind = f"fd://{listening.fileno()}"
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--bind",
                bind,
                "--workers=2",
                "--threads=4",
                "--no-control-socket",
                "--log-level=error",
                "sdk.shop:create_app()",
            ],
            env={**os.environ, "PYTHONPATH": str(TESTS), **environment(site, broker, url)},
            pass_fds=[listening.fileno()],
            cwd=TESTS,
        )
        try:
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            finally:
                process.kill()
                process.wait()


def events(count: int) -> list[Event]:
    return [Event(type="t", source="/s", partitionkey=str(n % 5), data=n) for n in range(count)]


def wait_until_ready(client: httpx.Client) -> None:
    def ready() -> bool:
        try:
            return client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    eventually(ready, within_s=30)


def deliver(client: httpx.Client, secret: str, event: Event) -> str | None:
    """Make one attempt; return the receipt, None for a failed one."""
    webhook = signed(binary(event), secret=secret)
    try:
        response = client.post("/webhooks/order", content=webhook.body, headers=webhook.headers)
    except httpx.TransportError:
        return None
    receipt: str | None = response.headers.get("Webhook-Receipt")
    return receipt


def check_effects(site: Site, broker: LoopbackBroker, sent: list[Event]) -> None:
    ids = sorted(event.id for event in sent)
    assert sorted(id for (id,) in site.rows("SELECT event_id FROM effect")) == ids
    eventually(lambda: shipped(broker) == ids, within_s=30)


def shipped(broker: LoopbackBroker) -> list[str]:
    return sorted(message["data"]["of"] for message in broker.messages.get("shipment", []))


@pytest.fixture(autouse=True)
def _effect_table(site: Site) -> None:
    site.write("CREATE TABLE effect (event_id TEXT)")


def test_under_werkzeug_events_are_handled_once(site: Site, broker: LoopbackBroker) -> None:
    with werkzeug_server(site, broker) as url, httpx.Client(base_url=url) as client:
        wait_until_ready(client)
        subscription = broker.subscriptions[SUBSCRIPTION]
        assert subscription["endpoint"] == f"{url}/webhooks/order"
        sent = events(10)

        receipts = [deliver(client, subscription["secret"], event) for event in [*sent, *sent]]
        assert receipts == ["processed"] * 10 + ["duplicate"] * 10
        again = signed(batch(sent), secret=subscription["secret"])
        response = client.post("/webhooks/order", content=again.body, headers=again.headers)
        assert (response.status_code, response.headers["Webhook-Receipt"]) == (204, "duplicate")

        check_effects(site, broker, sent)


def test_under_gunicorn_events_are_handled_once_though_workers_are_killed(
    site: Site, broker: LoopbackBroker
) -> None:
    sent = events(200)
    chance = random.Random(1)
    with gunicorn_server(site, broker) as url, httpx.Client(base_url=url) as client:
        wait_until_ready(client)
        secret = broker.subscriptions[SUBSCRIPTION]["secret"]

        def deliver_until_acknowledged(position: int) -> None:
            if position in (50, 100, 150):
                os.kill(int(client.get("/pid").text), signal.SIGKILL)
            eventually(lambda: deliver(client, secret, sent[position]), within_s=60)
            if chance.random() < 0.5:
                deliver(client, secret, sent[position])

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(deliver_until_acknowledged, range(len(sent))))
        check_effects(site, broker, sent)

    secrets = {request.document["secret"] for request in broker.requests if request.method == "PUT"}
    assert secrets == {secret}
