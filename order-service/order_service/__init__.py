"""The order service: takes orders and publishes each as `order.created`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from random import Random
from typing import cast

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from broker_client import Outbox, Publisher
from broker_client.traces import Traces
from order_service import health, orders
from order_service.background import Background, Loop
from order_service.database import Database
from order_service.demo import Demo
from order_service.models import Base
from order_service.problems import register_problems
from order_service.settings import Settings, read_settings

MAX_BODY_BYTES = 64 * 1024


def create_app(environment: Mapping[str, str] | None = None) -> Flask:
    """Build the app from its settings, by default the process's environment.

    Nothing runs beside the requests until `app.extensions["background"]` is started.
    Raises WrongSetting.
    """
    settings = read_settings(os.environ if environment is None else environment)
    database = Database(settings.database_url)
    publisher = Publisher(settings.broker_url, api_key=settings.broker_api_key)
    outbox = Outbox(database.engine, publisher)
    book = orders.Orders(database, outbox, time.time)

    database.create_tables(Base.metadata)
    outbox.create_tables()

    app = Flask(__name__)
    cast(DefaultJSONProvider, app.json).sort_keys = False
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.extensions["database"] = database
    app.extensions["publisher"] = publisher
    app.extensions["orders"] = book
    app.extensions["background"] = [
        Traces("order-service", environment),
        outbox,
        *demo_loops(settings, book),
    ]
    register_problems(app)
    app.register_blueprint(orders.bp)
    app.register_blueprint(health.bp)
    return app


def demo_loops(settings: Settings, book: orders.Orders) -> list[Background]:
    """Return the loop that places demo orders, or nothing where they are switched off."""
    if settings.demo_order_interval_s == 0:
        return []
    return [Loop("demo orders", Demo(book, settings.demo_order_interval_s, Random()).step)]
