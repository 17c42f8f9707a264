"""A process that only relays: `python relay_process.py DATABASE_URL BROKER_URL`."""

from __future__ import annotations

import sys
import threading

from sqlalchemy import create_engine

from broker_client import Outbox, Publisher

LEASE_S = 0.5


def main(database_url: str, broker_url: str) -> None:
    """Relay until killed."""
    outbox = Outbox(
        create_engine(database_url), Publisher(broker_url), poll_s=0.01, lease_s=LEASE_S
    )
    outbox.start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
