"""The library works where Flask, SQLAlchemy and gRPC are not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sdk.loopback_broker import LoopbackBroker

PROGRAM = """
import sqlite3, sys
from contextlib import closing
for missing in ("flask", "werkzeug", "sqlalchemy", "psycopg", "grpc", "google.protobuf"):
    sys.modules[missing] = None

from broker_client import Event, Inbox, Outbox, Publisher
path, url = sys.argv[1:]
connect = lambda: sqlite3.connect(path)
event = Event(type="t", source="/s")
with Publisher(url) as publisher:
    outbox, inbox = Outbox(connect, publisher), Inbox(connect)
    outbox.create_tables()
    inbox.create_tables()
    outbox.start()
    with closing(connect()) as connection:
        assert inbox.record(connection, event)
        outbox.add(connection, "order", event)
        connection.commit()
    outbox.stop()
    outbox.relay_once()
"""


def test_flask_sqlalchemy_and_grpc_are_optional(tmp_path: Path, broker: LoopbackBroker) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "a.db"), broker.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.stderr == ""
    assert done.returncode == 0
    assert len(broker.ids()) == 1
