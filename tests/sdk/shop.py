"""A shop: an application that receives orders and publishes what it did about them.

`gunicorn "sdk.shop:create_app()"`, with settings in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from broker_client import Event, Inbox, Outbox, Publisher
from broker_client.flask_ext import Subscriber


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """Make the application."""
    app = Flask("shop")
    app.config.from_mapping(environ)
    engine = create_engine(environ["DATABASE_URL"])
    sessions = sessionmaker(engine)
    inbox = Inbox(engine)
    publisher = Publisher(environ["BROKER_URL"])
    outbox = Outbox(engine, publisher, lease_s=1.0)
    inbox.create_tables()
    outbox.create_tables()
    outbox.start()
    subscriber = Subscriber(app, inbox=inbox, transaction=sessions.begin)

    @subscriber.on("order")
    def handle(event: Event, session: Session) -> None:
        session.execute(text("INSERT INTO effect VALUES (:id)"), {"id": event.id})
        shipped = Event(
            type="shipped", source="/shop", data={"of": event.id}, partitionkey=event.partitionkey
        )
        outbox.add(session, "shipment", shipped)

    @app.get("/readyz")
    def ready() -> tuple[str, int]:
        return "", 200 if subscriber.ready else 503

    @app.get("/pid")
    def pid() -> str:
        return str(os.getpid())

    app.extensions["stop"] = [subscriber.stop, outbox.stop, publisher.close, engine.dispose]
    return app
