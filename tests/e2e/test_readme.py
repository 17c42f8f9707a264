"""The Python examples of the README run as they stand, and do what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from e2e.stack import ROOT
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.eventually import eventually

EXAMPLES = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)


@contextmanager
def serving(app: Flask, port: int) -> Iterator[None]:
    """Serve an application in a thread."""
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = Thread(target=server.serve_forever, name="shop")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(example: str, broker: BrokerProcess, port: int) -> dict[str, Any]:
    """Run an example with another broker and another port of the application."""
    code = example.replace("http://localhost:8080", broker.base_url)
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(
        compile(code.replace("localhost:5000", f"localhost:{port}"), "README.md", "exec"), namespace
    )
    return namespace


def test_what_the_publisher_publishes_reaches_the_subscriber(
    start_broker: StartBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    publisher, subscriber = EXAMPLES
    broker, port = start_broker(), free_port()

    run(publisher, broker, port)
    shop = run(subscriber, broker, port)
    try:
        with redirect_stdout(StringIO()) as printed, serving(shop["app"], port):
            eventually(lambda: printed.getvalue() == "shipping order 42\n")
    finally:
        shop["subscriber"].stop()
