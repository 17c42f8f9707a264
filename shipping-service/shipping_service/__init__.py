"""The shipping service: an order becomes a shipment, which moves on until it has arrived."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import cast

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from broker_client import Inbox, Outbox, Publisher
from broker_client.flask_ext import Subscriber
from broker_client.traces import Traces
from shipping_service import health, shipments
from shipping_service.background import Loop
from shipping_service.database import Database
from shipping_service.depot import Depot
from shipping_service.models import Base
from shipping_service.problems import register_problems
from shipping_service.settings import Settings, read_settings
from shipping_service.webhooks import handle_orders, purge_inbox

MAX_BODY_BYTES = 2 * 1024 * 1024  # the broker's messages have at most half of it


def create_app(environment: Mapping[str, str] | None = None) -> Flask:
    """Build the app from its settings, by default the process's environment.

    Subscribing begins at once; what else works beside the requests waits until
    `app.extensions["background"]` is started. Raises WrongSetting.
    """
    settings = read_settings(os.environ if environment is None else environment)
    database = Database(settings.database_url)
    publisher = Publisher(settings.broker_url, api_key=settings.broker_api_key)
    outbox = Outbox(database.engine, publisher)
    inbox = Inbox(database.engine)
    depot = Depot(database, outbox, time.time, Random(), settings.shipping_step_s)

    database.create_tables(Base.metadata)
    outbox.create_tables()
    inbox.create_tables()

    app = Flask(__name__)
    app.config.update(broker_config(settings), MAX_CONTENT_LENGTH=MAX_BODY_BYTES)
    cast(DefaultJSONProvider, app.json).sort_keys = False
    subscriber = Subscriber(app, inbox=inbox, transaction=database.write)
    handle_orders(subscriber, depot)

    app.extensions["database"] = database
    app.extensions["publisher"] = publisher
    app.extensions["depot"] = depot
    app.extensions["subscriber"] = subscriber
    app.extensions["background"] = [
        Traces("shipping-service", environment),
        outbox,
        Loop("shipments", depot.step),
        Loop("inbox", partial(purge_inbox, inbox)),
        subscriber,
    ]
    register_problems(app)
    app.register_blueprint(shipments.bp)
    app.register_blueprint(health.bp)
    return app


def broker_config(settings: Settings) -> dict[str, object]:
    """Say what the client library's Flask extension wants to know."""
    return {
        "BROKER_URL": settings.broker_url,
        "BROKER_API_KEY": settings.broker_api_key,
        "BROKER_SUBSCRIBER_NAME": "shipping-service",
        "BROKER_WEBHOOK_URL": settings.broker_webhook_url,
        "BROKER_WEBHOOK_SECRET": settings.broker_webhook_secret,
        "BROKER_WEBHOOK_ORIGINS": settings.broker_webhook_origins,
        "BROKER_SUBSCRIBE": settings.broker_subscribe,
    }
