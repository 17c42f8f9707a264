"""The baseline: what a user would write to take messages durably, in Flask and SQLite."""

import os
import sqlite3
import threading
import uuid
from collections.abc import Mapping

from flask import Flask, request
from flask.typing import ResponseReturnValue

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    id TEXT NOT NULL,
    data BLOB NOT NULL
)
"""


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """Build the app on the database file that BASELINE_DATABASE names."""
    app = Flask(__name__)
    database = environ["BASELINE_DATABASE"]
    local = threading.local()

    def connection() -> sqlite3.Connection:
        if not hasattr(local, "connection"):
            local.connection = connect(database)
        opened: sqlite3.Connection = local.connection
        return opened

    @app.post("/topics/<topic>/messages")
    def publish(topic: str) -> ResponseReturnValue:
        """Store one message; answer once it is on disk."""
        message_id = str(uuid.uuid4())
        with connection() as transaction:
            row = transaction.execute(
                "INSERT INTO message (topic, id, data) VALUES (?, ?, ?)",
                (topic, message_id, request.get_data()),
            )
        return {"id": message_id, "sequence": row.lastrowid}, 201

    @app.get("/readyz")
    def ready() -> ResponseReturnValue:
        """Say that a message could be stored."""
        connection().execute("SELECT 1 FROM message LIMIT 1")
        return {"status": "ready"}

    return app


def connect(database: str) -> sqlite3.Connection:
    """Open the database so that a commit is on disk when it returns."""
    connection = sqlite3.connect(database, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(SCHEMA)
    return connection
